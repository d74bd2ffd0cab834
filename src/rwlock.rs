//! [`PyRwLock`]: a reader-writer lock for attached threads, which detach only to wait.

mod guard;
mod raw;

use std::{
    cell::UnsafeCell,
    fmt,
    panic::{Location, RefUnwindSafe, UnwindSafe},
    sync::Arc,
};

use pyo3::{prelude::*, pyclass::PyVisit};

pub use self::guard::{
    ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard,
    PyRwLockReadGuard, PyRwLockWriteGuard,
};
use self::raw::RawRwLock;
use crate::{
    error::{DeadlockError, TryAttachedError, WaitError},
    guard::{Guard, PoisonOnPanic},
    wait::{Failure, Wait},
};

/// A reader-writer lock for data that attached threads read often and change rarely.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyRwLock;
/// use std::collections::BTreeMap;
///
/// static OPTIONS: PyRwLock<BTreeMap<String, String>> = PyRwLock::new(BTreeMap::new());
///
/// #[pyfunction]
/// fn option(py: Python<'_>, name: &str) -> Option<String> {
///     OPTIONS.read(py).get(name).cloned()
/// }
///
/// #[pyfunction]
/// fn set_option(py: Python<'_>, name: String, value: String) {
///     OPTIONS.write(py).insert(name, value);
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     set_option(py, "color".into(), "red".into());
/// #     assert_eq!(option(py, "color").as_deref(), Some("red"));
/// # });
/// ```
///
/// Any number of readers, or one writer, hold the lock. On free-threaded Python a reader stores
/// only to memory of its own thread, so reading scales with the threads. A writer scans the readers
/// of all threads. If a third of all accesses are writes, a [`PyMutex`](crate::PyMutex) is faster.
///
/// As with [`PyMutex`](crate::PyMutex), threads detach only to wait, guards cannot outlive the
/// token, the data can be lent to detached code, and deadlocks are reported.
///
/// # Reading and writing on one thread
///
/// - A reader may lock for reading again. This never blocks, even if a writer waits. It holds only
///   for the thread that owns the guard: see [Helper threads](#helper-threads).
/// - A reader that locks for writing would wait for itself. [`write`](Self::write) panics, and
///   [`write_checked`](Self::write_checked) returns an error. Temporary guards live to the end of
///   their statement:
///
///   ```should_panic
///   # use pyo3::prelude::*;
///   # use pyo3_sync::PyRwLock;
///   # Python::initialize();
///   # Python::attach(|py| {
///   let items = PyRwLock::new(vec![1, 2]);
///   match items.read(py).first() {
///       Some(_) => items.write(py).push(3), // Still reading.
///       None => {}
///   }
///   # });
///   ```
///
///   Copy the required data and drop the guard first.
/// - A writer may lock neither for reading nor for writing, before it unlocks or
///   [downgrades](PyRwLockWriteGuard::downgrade).
/// - A waiting writer already keeps new readers out. Code that runs on its thread during the wait
///   may therefore not lock either: signal handlers, if the wait is
///   [interruptible](crate::Wait::interruptible), and finalizers. A deadlock is reported to them.
///
/// Cycles of several threads are reported to one of them. They may include readers, writers and
/// other locks of this crate.
///
/// # Helper threads
///
/// A reader may lend the data to helper threads, for example to those of a thread pool. A helper
/// thread must use the borrowed `&T`, and not call [`read`](Self::read). If a writer waits for the
/// reader, that `read` blocks behind the writer; the writer waits for the reader, and the reader
/// waits for the helper thread. This deadlock is not reported: the lock cannot see that a thread
/// waits for another one by other means. [`try_read`](Self::try_read) returns `None` in that case.
///
/// There is no `read_recursive`, which would not wait behind a waiting writer: threads that use it
/// in turn can starve writers.
///
/// # Fairness
///
/// A waiting writer keeps new readers out, so readers cannot starve writers. If a waiter has waited
/// for 1 ms, the next unlock reserves the lock for it; readers share one reservation. So writers
/// cannot starve readers.
///
/// # Poisoning
///
/// A panic while a *write* guard is alive poisons the lock, as with [`std::sync::RwLock`].
/// [`read`](Self::read) and [`write`](Self::write) ignore poisoning. Call
/// [`is_poisoned`](Self::is_poisoned) under the guard to handle it.
///
/// # Differences from `std` and parking_lot
///
/// The [differences of `PyMutex`](crate::PyMutex#differences-from-std-and-parking_lot) apply, and:
///
/// | elsewhere | here |
/// |---|---|
/// | `read`, `write`, .. of `std` report poisoning | [`is_poisoned`](Self::is_poisoned) |
/// | `try_read_for`, `try_read_until` of parking_lot | [`read_with`](Self::read_with) |
/// | `try_write_for`, `try_write_until` of parking_lot | [`write_with`](Self::write_with) |
/// | `upgradable_read` | [`write`](Self::write): writes are expected to be rare |
/// | `read_recursive` | not available: see [Helper threads](#helper-threads) |
/// | `is_locked_exclusive` | [`is_write_locked`](Self::is_write_locked) |
pub struct PyRwLock<T: ?Sized> {
    raw: RawRwLock,
    data: UnsafeCell<T>,
}

// SAFETY: sending the lock sends its data, and `T: Send`.
unsafe impl<T: ?Sized + Send> Send for PyRwLock<T> {}
// SAFETY:
// - A writer has the only reference to the data, which sends them between threads: `T: Send`.
// - Readers share the data: `T: Sync`. So does `traverse`.
unsafe impl<T: ?Sized + Send + Sync> Sync for PyRwLock<T> {}

// A panic of a writer poisons the lock, which shows that the data may be inconsistent.
impl<T: ?Sized> UnwindSafe for PyRwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for PyRwLock<T> {}

impl<T> PyRwLock<T> {
    /// Creates an unlocked lock.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        PyRwLock {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Replaces the data of a lock whose holders were lost to a fork, and unlocks it.
    ///
    /// The old data are leaked. See [`PyMutex::reset_abandoned`](crate::PyMutex::reset_abandoned).
    ///
    /// # Errors
    ///
    /// Returns `value` if no thread that was lost to a fork holds the lock, or if an existing
    /// thread does.
    ///
    /// # Safety
    ///
    /// The calling thread has no reference to the old data. It can have one only if a holder lent
    /// it before the fork, for example as a part of `*guard` passed to a scoped thread.
    #[track_caller]
    pub unsafe fn reset_abandoned(&self, py: Python<'_>, value: T) -> Result<(), T> {
        if !self.raw.take_abandoned(py, Location::caller()) {
            return Err(value);
        }
        // SAFETY:
        // - This thread owns the lock, which it acquired from threads that do not exist.
        // - The caller guarantees that this thread has no reference to the data. Every other thread
        //   of this process was created after the fork.
        // - The old data may be inconsistent. They are neither read nor dropped.
        unsafe { self.data.get().write(value) };
        self.raw.clear_poison(py);
        // SAFETY: this thread owns the lock, and has no reference to the data.
        unsafe { self.raw.unlock_write(py) };
        Ok(())
    }

    /// Consumes the lock, returning its value.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> PyRwLock<T> {
    #[inline]
    fn read_at<'a>(
        &'a self,
        py: Python<'a>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<PyRwLockReadGuard<'a, T>, Failure> {
        let entry = self.raw.read(py, wait, caller)?;
        // SAFETY:
        // - This thread has just locked for reading.
        // - Guards of readers have `Shared` access, by the return type.
        Ok(unsafe { Guard::new(self, py, entry) })
    }

    #[inline]
    fn write_at<'a>(
        &'a self,
        py: Python<'a>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<PyRwLockWriteGuard<'a, T>, Failure> {
        self.raw.write(py, wait, caller)?;
        // SAFETY: this thread has just locked for writing.
        Ok(unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Locks for reading, blocking until no thread writes or waits to write.
    ///
    /// The thread detaches while it waits.
    ///
    /// # Panics
    ///
    /// Panics with the message of the [`DeadlockError`] if the wait could never end. The lock is
    /// unchanged.
    ///
    /// # Deadlocks
    ///
    /// These waits could never end:
    ///
    /// - The thread writes, or waits to write.
    /// - The thread is part of a cycle, in which each thread waits for a lock that the next one
    ///   holds.
    /// - Another thread writes, and the interpreter is shutting down.
    /// - The writer was lost to a fork. A writer that still waited for readers at the fork is
    ///   ignored.
    #[inline]
    #[track_caller]
    pub fn read<'a>(&'a self, py: Python<'a>) -> PyRwLockReadGuard<'a, T> {
        match self.read_at(py, &Wait::FOREVER, Location::caller()) {
            Ok(guard) => guard,
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Locks for reading, or returns an error if the wait could never end.
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`] where [`read`](Self::read) panics.
    #[inline]
    #[track_caller]
    pub fn read_checked<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Result<PyRwLockReadGuard<'a, T>, DeadlockError> {
        self.read_at(py, &Wait::FOREVER, Location::caller())
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Locks for reading, waiting as `wait` says: with a timeout, interruptible by signals, or
    /// both.
    ///
    /// See [`PyMutex::lock_with`](crate::PyMutex::lock_with).
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] where [`read`](Self::read) panics, unless there is a timeout.
    #[inline]
    #[track_caller]
    pub fn read_with<'a>(
        &'a self,
        py: Python<'a>,
        wait: impl Into<Wait>,
    ) -> Result<PyRwLockReadGuard<'a, T>, WaitError> {
        self.read_at(py, &wait.into(), Location::caller())
            .map_err(|failure| WaitError::new(py, failure))
    }

    /// Attempts to lock for reading without blocking.
    ///
    /// Returns `None` if a thread writes or waits to write, unless this thread reads already. A
    /// failed attempt blocks no other thread and wakes none.
    #[inline]
    #[track_caller]
    pub fn try_read<'a>(&'a self, py: Python<'a>) -> Option<PyRwLockReadGuard<'a, T>> {
        let entry = self.raw.try_read(py)?;
        // SAFETY:
        // - This thread has just locked for reading.
        // - Guards of readers have `Shared` access, by the return type.
        Some(unsafe { Guard::new(self, py, entry) })
    }

    /// Runs `f` with the data, locked for reading.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&T) -> R) -> R {
        f(&self.read(py))
    }

    /// Attaches to the interpreter, locks for reading and runs `f` with the data.
    ///
    /// The restrictions of [`PyMutex::try_with_attached`](crate::PyMutex::try_with_attached) apply.
    ///
    /// # Errors
    ///
    /// `f` has not run in either case:
    ///
    /// - [`TryAttachedError::NotAttached`] if the thread cannot attach.
    /// - [`TryAttachedError::Deadlock`] where [`read`](Self::read) panics.
    #[track_caller]
    pub fn try_read_attached<R>(
        &self,
        f: impl for<'py> FnOnce(Python<'py>, &T) -> R,
    ) -> Result<R, TryAttachedError> {
        let caller = Location::caller();
        Python::try_attach(|py| {
            let locked = self.read_at(py, &Wait::FOREVER, caller);
            let guard = locked.map_err(|failure| DeadlockError::new(py, failure))?;
            Ok(f(py, &guard))
        })
        .unwrap_or(Err(TryAttachedError::NotAttached))
    }

    /// Locks for reading a lock in an [`Arc`]. The guard owns a reference to the lock.
    ///
    /// The guard still cannot outlive the token. [`PyRwLockReadGuard::into_arc`] converts the
    /// guards of other methods.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    #[inline]
    #[track_caller]
    pub fn read_arc<'py>(this: &Arc<Self>, py: Python<'py>) -> ArcPyRwLockReadGuard<'py, T> {
        PyRwLockReadGuard::into_arc(this.read(py), this, py)
    }

    /// Locks for writing, blocking until no other thread reads or writes.
    ///
    /// The thread detaches while it waits.
    ///
    /// # Panics
    ///
    /// Panics with the message of the [`DeadlockError`] if the wait could never end. The lock is
    /// unchanged.
    ///
    /// # Deadlocks
    ///
    /// These waits could never end:
    ///
    /// - The thread reads, writes or waits to write.
    /// - The thread is part of a cycle, in which each thread waits for a lock that the next one
    ///   holds.
    /// - Another thread holds the lock, and the interpreter is shutting down.
    /// - The writer or a reader was lost to a fork.
    #[inline]
    #[track_caller]
    pub fn write<'a>(&'a self, py: Python<'a>) -> PyRwLockWriteGuard<'a, T> {
        match self.write_at(py, &Wait::FOREVER, Location::caller()) {
            Ok(guard) => guard,
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Locks for writing, or returns an error if the wait could never end.
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`] where [`write`](Self::write) panics.
    #[inline]
    #[track_caller]
    pub fn write_checked<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Result<PyRwLockWriteGuard<'a, T>, DeadlockError> {
        self.write_at(py, &Wait::FOREVER, Location::caller())
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Locks for writing, waiting as `wait` says: with a timeout, interruptible by signals, or
    /// both.
    ///
    /// See [`PyMutex::lock_with`](crate::PyMutex::lock_with).
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] where [`write`](Self::write) panics, unless there is a timeout.
    #[inline]
    #[track_caller]
    pub fn write_with<'a>(
        &'a self,
        py: Python<'a>,
        wait: impl Into<Wait>,
    ) -> Result<PyRwLockWriteGuard<'a, T>, WaitError> {
        self.write_at(py, &wait.into(), Location::caller())
            .map_err(|failure| WaitError::new(py, failure))
    }

    /// Attempts to lock for writing without blocking.
    ///
    /// Returns `None` if a thread reads, writes or waits to write, this one included, or if the
    /// lock is reserved for other threads. A failed attempt blocks no other thread and wakes none.
    #[inline]
    #[track_caller]
    pub fn try_write<'a>(&'a self, py: Python<'a>) -> Option<PyRwLockWriteGuard<'a, T>> {
        let locked = self.raw.try_write(py, Location::caller());
        // SAFETY: this thread has just locked for writing.
        locked.then(|| unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Runs `f` with the data, locked for writing.
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write).
    #[inline]
    #[track_caller]
    pub fn with_mut<R>(&self, py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.write(py))
    }

    /// Attaches to the interpreter, locks for writing and runs `f` with the data.
    ///
    /// The restrictions of [`PyMutex::try_with_attached`](crate::PyMutex::try_with_attached) apply.
    ///
    /// # Errors
    ///
    /// `f` has not run in either case:
    ///
    /// - [`TryAttachedError::NotAttached`] if the thread cannot attach.
    /// - [`TryAttachedError::Deadlock`] where [`write`](Self::write) panics.
    #[track_caller]
    pub fn try_write_attached<R>(
        &self,
        f: impl for<'py> FnOnce(Python<'py>, &mut T) -> R,
    ) -> Result<R, TryAttachedError> {
        let caller = Location::caller();
        Python::try_attach(|py| {
            let locked = self.write_at(py, &Wait::FOREVER, caller);
            let mut guard = locked.map_err(|failure| DeadlockError::new(py, failure))?;
            Ok(f(py, &mut guard))
        })
        .unwrap_or(Err(TryAttachedError::NotAttached))
    }

    /// Locks for writing a lock in an [`Arc`]. The guard owns a reference to the lock.
    ///
    /// The guard still cannot outlive the token. [`PyRwLockWriteGuard::into_arc`] converts the
    /// guards of other methods.
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write).
    #[inline]
    #[track_caller]
    pub fn write_arc<'py>(this: &Arc<Self>, py: Python<'py>) -> ArcPyRwLockWriteGuard<'py, T> {
        PyRwLockWriteGuard::into_arc(this.write(py), this, py)
    }

    /// Returns a mutable reference to the data.
    ///
    /// No locking is needed: the exclusive borrow proves that no guard exists.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Returns whether a thread reads, writes or waits to write.
    ///
    /// The answer may be outdated when the caller uses it. For statistics and assertions.
    pub fn is_locked(&self) -> bool {
        self.raw.has_owner() || self.raw.has_readers()
    }

    /// Returns whether a thread writes, or waits for readers to leave in order to write.
    ///
    /// For statistics and assertions, as [`is_locked`](Self::is_locked).
    pub fn is_write_locked(&self) -> bool {
        self.raw.has_owner()
    }

    /// Returns whether the lock is poisoned.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Clears the poisoned state of the lock.
    pub fn clear_poison(&self, py: Python<'_>) {
        self.raw.clear_poison(py);
    }

    /// Locks for writing if the holders were lost to a fork, and poisons the lock.
    ///
    /// The data are unchanged. Returns `None` if no thread that was lost to a
    /// fork holds the lock, or if an existing thread does. See
    /// [`PyMutex::recover_abandoned`](crate::PyMutex::recover_abandoned).
    ///
    /// # Safety
    ///
    /// - The data are a valid `T`. The fork may have interrupted a writer between any two
    ///   instructions.
    /// - The calling thread has no reference to the data that a holder lent.
    #[track_caller]
    pub unsafe fn recover_abandoned<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Option<PyRwLockWriteGuard<'a, T>> {
        let taken = self.raw.take_abandoned(py, Location::caller());
        // SAFETY: this thread has just locked for writing.
        taken.then(|| unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Returns the data to the garbage collector, in `__traverse__`.
    ///
    /// Returns `None` while a thread writes, or waits for readers to leave in order to write. The
    /// collector then treats the objects in the data as reachable, and visits them in a later
    /// collection. The reference ends with the visit.
    ///
    /// [Exactly one Python object](crate::PyMutex#one-owner) may own the data and visit them.
    /// [`PyMutex::traverse`](crate::PyMutex::traverse) has an example.
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> Option<&'v T> {
        if self.raw.has_owner() {
            return None;
        }
        // SAFETY:
        // - The reference cannot outlive the `PyVisit`, which exists only during a traversal.
        // - No thread becomes a writer during a traversal, so no `&mut T` appears. With a GIL, this
        //   thread holds it and runs only the traversal. On free-threaded builds the world is
        //   stopped, and only running attached threads acquire locks (I3). Readers share the data
        //   with the collector.
        // - The writes of the last owner are visible: `has_owner` is an acquire load.
        Some(unsafe { &*self.data.get() })
    }
}

impl<T: Default> Default for PyRwLock<T> {
    #[track_caller]
    fn default() -> Self {
        PyRwLock::new(T::default())
    }
}

impl<T> From<T> for PyRwLock<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        PyRwLock::new(value)
    }
}

/// Shows whether the lock is locked and poisoned. Showing the data would need the lock.
impl<T: ?Sized> fmt::Debug for PyRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyRwLock")
            .field("locked", &self.is_locked())
            .field("write_locked", &self.is_write_locked())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}
