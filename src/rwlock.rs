//! [`PyRwLock`]: many readers or one writer, among attached threads, which detach only to wait.

mod guard;
mod raw;

use std::{
    cell::UnsafeCell,
    fmt,
    panic::{Location, RefUnwindSafe, UnwindSafe},
    sync::{Arc, LockResult, PoisonError},
    time::{Duration, Instant},
};

use pyo3::{prelude::*, pyclass::PyVisit};

pub use self::guard::{
    ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard,
    PyRwLockReadGuard, PyRwLockWriteGuard,
};
use self::raw::RawRwLock;
use crate::{
    deadlock::DeadlockError,
    guard::{ArcGuard, Guard, PoisonOnPanic},
    mutex::TryAttachedError,
    wait::{Patience, Refusal},
};

/// A lock for data that attached threads read often and change seldom.
///
/// Any number of threads read at once, or one writes. Readers on free-threaded Python do not write to anything that they share,
/// so that reading scales with the threads: each leaves its mark in a place of its own. The price is paid by writers, who look at the
/// mark of every thread: where a third of all accesses are writes, a [`PyMutex`](crate::PyMutex) is the better choice.
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
/// #     set_option(py, "colour".into(), "red".into());
/// #     assert_eq!(option(py, "colour").as_deref(), Some("red"));
/// # });
/// ```
///
/// All that is said of [`PyMutex`](crate::PyMutex) holds here too: waiting is detached, and nobody detaches without need; guards
/// live no longer than the token, and what they guard can be lent to detached code; waits that could never end are reported.
///
/// # Reading and writing on one thread
///
/// - A thread that reads may read again. This never blocks, not even while a writer waits. It holds
///   only for the thread that owns the guard: see [below](#helper-threads).
/// - A thread that reads and asks to write would wait for itself. [`write`](Self::write) panics,
///   [`write_checked`](Self::write_checked) is an error. It is easy to do in one statement, since the guards of a statement live to its
///   end:
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
///   Copy what is needed out of what is read, and let that guard go first.
/// - A thread that writes may do neither, until it has stopped, or [downgraded](PyRwLockWriteGuard::downgrade).
/// - A thread that waits to write keeps others from reading already. So what runs on it meanwhile may do neither: a signal handler, if the
///   wait [can be interrupted](Self::write_interruptible), or a finaliser. It would wait for the wait that it
///   interrupts, which is reported.
///
/// Cycles of several threads, through readers as well as writers and through other locks of this crate, are reported to one of
/// them.
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
/// A writer that waits keeps new readers out, so readers cannot starve it. A reader or writer that has slept for a millisecond has its turn
/// reserved when the lock is next unlocked, readers all together; so writers cannot starve readers.
///
/// # Poison
///
/// As with [`std::sync::RwLock`], a panic while a *write* guard is alive poisons the lock. [`read`](Self::read) and
/// [`write`](Self::write) do not care; [`read_poisonable`](Self::read_poisonable) and
/// [`write_poisonable`](Self::write_poisonable) tell.
///
/// # Not here
///
/// What is said at [`PyMutex`](crate::PyMutex#not-here) of poison, of signals in waits with a limit, of the `*_fair` forms and of locking
/// without a guard holds here too. Of `lock_api`: upgradable readers, a lock of their own for something that [`write`](Self::write)
/// does as well when writes are few; `read_recursive`, for the reason given under
/// [Helper threads](#helper-threads); `is_locked_exclusive` is
/// [`is_write_locked`](Self::is_write_locked).
pub struct PyRwLock<T: ?Sized> {
    raw: RawRwLock,
    data: UnsafeCell<T>,
}

// SAFETY: a lock that is sent takes its data along, which is safe if the data may be sent.
unsafe impl<T: ?Sized + Send> Send for PyRwLock<T> {}
// SAFETY: a shared lock lends its data to one writer at a time, which is like sending it there and back, or to several readers at once,
// which is what `T: Sync` allows. That holds of `traverse` too: see there.
unsafe impl<T: ?Sized + Send + Sync> Sync for PyRwLock<T> {}

// A panic under the lock may leave the data half-changed, which is what poisoning tells; as for `std::sync::RwLock`.
impl<T: ?Sized> UnwindSafe for PyRwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for PyRwLock<T> {}

impl<T> PyRwLock<T> {
    /// A free lock that guards `value`.
    pub const fn new(value: T) -> Self {
        PyRwLock {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Makes a lock usable again in the child of a fork whose writer, or readers, the fork left behind, with new data. The old data
    /// are leaked. As [`PyMutex::reset_abandoned`](crate::PyMutex::reset_abandoned).
    ///
    /// # Safety
    ///
    /// The calling thread has no reference to the old data. It could only have one that a thread which is gone lent it,
    /// before the fork, as a scoped thread to which a part of `*guard` was passed.
    ///
    /// # Errors
    ///
    /// The new data back, if no thread that is gone holds the lock, or one does that exists.
    #[track_caller]
    pub unsafe fn reset_abandoned(&self, py: Python<'_>, value: T) -> Result<(), T> {
        if !self.raw.take_abandoned(py, Location::caller()) {
            return Err(value);
        }
        // SAFETY: this thread has just taken the lock over from threads that do not exist, and holds no loan of the data, says
        // the caller; any other thread of this process is younger than the fork. They are overwritten without being read or dropped,
        // so it does not matter in what state they were.
        unsafe { self.data.get().write(value) };
        self.raw.clear_poison(py);
        // SAFETY: this thread owns the lock, and has made no reference to the data.
        unsafe { self.raw.unlock_write(py) };
        Ok(())
    }

    /// Takes the lock apart. No lock is needed, since nobody else can have it.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> PyRwLock<T> {
    #[inline]
    fn read_patiently<'a>(
        &'a self,
        py: Python<'a>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<PyRwLockReadGuard<'a, T>, Refusal> {
        let entry = self.raw.read(py, patience, asked_at)?;
        // SAFETY: this thread has just locked for reading.
        Ok(unsafe { Guard::new(self, py, entry) })
    }

    #[inline]
    fn write_patiently<'a>(
        &'a self,
        py: Python<'a>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<PyRwLockWriteGuard<'a, T>, Refusal> {
        self.raw.write(py, patience, asked_at)?;
        // SAFETY: this thread has just locked for writing.
        Ok(unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Locks for reading, waiting detached from the interpreter if it has to.
    ///
    /// # Panics
    ///
    /// If the wait could never end, with the message of the [`DeadlockError`]: see below. Nothing is locked then, and the lock is as
    /// it was.
    ///
    /// # Deadlocks
    ///
    /// A wait could never end if the thread is writing, or waits to write; if it is part of a cycle of threads each of which waits for
    /// a lock that the next one holds; if the interpreter is shutting down and another thread writes; and if a thread that wrote was
    /// left behind by a fork. (Threads that only waited to write then are passed over.)
    #[inline]
    #[track_caller]
    pub fn read<'a>(&'a self, py: Python<'a>) -> PyRwLockReadGuard<'a, T> {
        match self.read_patiently(py, || Patience::Forever, Location::caller()) {
            Ok(guard) => guard,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// [`read`](Self::read) under the name that `pyo3::sync::RwLockExt` gives it, and without a `Result`.
    #[inline]
    #[track_caller]
    pub fn read_py_attached<'a>(&'a self, py: Python<'a>) -> PyRwLockReadGuard<'a, T> {
        self.read(py)
    }

    /// Locks for reading, or gives an error if the wait could never end.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`] where [`read`](Self::read) panics.
    #[inline]
    #[track_caller]
    pub fn read_checked<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Result<PyRwLockReadGuard<'a, T>, DeadlockError> {
        self.read_patiently(py, || Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// Locks for reading, and lets Ctrl-C end the wait, as [`PyMutex::lock_interruptible`](crate::PyMutex::lock_interruptible).
    ///
    /// # Errors
    ///
    /// What a signal handler raised (`KeyboardInterrupt`, as a rule), or a [`DeadlockError`] where [`read`](Self::read) panics.
    #[inline]
    #[track_caller]
    pub fn read_interruptible<'a>(&'a self, py: Python<'a>) -> PyResult<PyRwLockReadGuard<'a, T>> {
        Ok(self.read_patiently(py, || Patience::Interruptible, Location::caller())?)
    }

    /// Locks for reading, and says whether a thread has panicked while it wrote, as [`std::sync::RwLock::read`] does.
    ///
    /// # Errors
    ///
    /// The guard, wrapped, if the lock is poisoned.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    #[inline]
    #[track_caller]
    pub fn read_poisonable<'a>(&'a self, py: Python<'a>) -> LockResult<PyRwLockReadGuard<'a, T>> {
        let guard = self.read(py);
        if self.is_poisoned() {
            Err(PoisonError::new(guard))
        } else {
            Ok(guard)
        }
    }

    /// Locks for reading if that needs no waiting.
    ///
    /// Returns `None` if a thread writes or waits to write, unless this thread reads already. A
    /// failed attempt blocks no other thread and wakes none.
    #[inline]
    #[track_caller]
    pub fn try_read<'a>(&'a self, py: Python<'a>) -> Option<PyRwLockReadGuard<'a, T>> {
        let entry = self.raw.try_read(py)?;
        // SAFETY: this thread has just locked for reading.
        Some(unsafe { Guard::new(self, py, entry) })
    }

    /// Locks for reading, waiting no longer than `limit`. A limit too long to be added to the current time is no limit.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read), if the limit is none.
    #[inline]
    #[track_caller]
    pub fn try_read_for<'a>(
        &'a self,
        py: Python<'a>,
        limit: Duration,
    ) -> Option<PyRwLockReadGuard<'a, T>> {
        in_time(self.read_patiently(py, || Patience::for_duration(limit), Location::caller()))
    }

    /// Locks for reading, waiting no longer than until `limit`.
    #[inline]
    #[track_caller]
    pub fn try_read_until<'a>(
        &'a self,
        py: Python<'a>,
        limit: Instant,
    ) -> Option<PyRwLockReadGuard<'a, T>> {
        in_time(self.read_patiently(py, || Patience::Until(limit), Location::caller()))
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

    /// Attaches to the interpreter, locks for reading and runs `f`: for code that has no token. What is said at
    /// [`PyMutex::try_with_attached`](crate::PyMutex::try_with_attached) holds here too.
    ///
    /// # Errors
    ///
    /// [`TryAttachedError::NotAttached`] if the thread cannot attach, [`TryAttachedError::Deadlock`] where [`read`](Self::read)
    /// panics. `f` has not run in either case.
    #[track_caller]
    pub fn try_read_attached<R>(
        &self,
        f: impl for<'py> FnOnce(Python<'py>, &T) -> R,
    ) -> Result<R, TryAttachedError> {
        let asked_at = Location::caller();
        Python::try_attach(|py| {
            let locked = self.read_patiently(py, || Patience::Forever, asked_at);
            let guard = locked.map_err(Refusal::into_deadlock)?;
            Ok(f(py, &guard))
        })
        .unwrap_or(Err(TryAttachedError::NotAttached))
    }

    /// Locks for reading, with a guard that owns a reference to the lock and not a borrow. It still lives no longer than the token.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    #[inline]
    #[track_caller]
    pub fn read_arc<'py>(this: &Arc<Self>, py: Python<'py>) -> ArcPyRwLockReadGuard<'py, T> {
        match Self::read_arc_patiently(this, py, || Patience::Forever, Location::caller()) {
            Ok(guard) => guard,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    #[inline]
    fn read_arc_patiently<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<ArcPyRwLockReadGuard<'py, T>, Refusal> {
        let entry = this.raw.read(py, patience, asked_at)?;
        // SAFETY: this thread has just locked for reading.
        Ok(unsafe { ArcGuard::new(Arc::clone(this), py, entry) })
    }

    /// [`read_arc`](Self::read_arc) if that needs no waiting, as [`try_read`](Self::try_read).
    #[inline]
    #[track_caller]
    pub fn try_read_arc<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> Option<ArcPyRwLockReadGuard<'py, T>> {
        let entry = this.raw.try_read(py)?;
        // SAFETY: this thread has just locked for reading.
        Some(unsafe { ArcGuard::new(Arc::clone(this), py, entry) })
    }

    /// [`read_arc`](Self::read_arc), with an error where that panics.
    ///
    /// # Errors
    ///
    /// As [`read_checked`](Self::read_checked).
    #[inline]
    #[track_caller]
    pub fn read_arc_checked<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> Result<ArcPyRwLockReadGuard<'py, T>, DeadlockError> {
        Self::read_arc_patiently(this, py, || Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// [`read_arc`](Self::read_arc), and lets Ctrl-C end the wait.
    ///
    /// # Errors
    ///
    /// As [`read_interruptible`](Self::read_interruptible).
    #[inline]
    #[track_caller]
    pub fn read_arc_interruptible<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> PyResult<ArcPyRwLockReadGuard<'py, T>> {
        let patience = || Patience::Interruptible;
        Ok(Self::read_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        )?)
    }

    /// [`read_arc`](Self::read_arc), waiting no longer than `limit`, as [`try_read_for`](Self::try_read_for).
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read), if the limit is none.
    #[inline]
    #[track_caller]
    pub fn try_read_arc_for<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        limit: Duration,
    ) -> Option<ArcPyRwLockReadGuard<'py, T>> {
        let patience = || Patience::for_duration(limit);
        in_time(Self::read_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        ))
    }

    /// [`read_arc`](Self::read_arc), waiting no longer than until `limit`, as [`try_read_until`](Self::try_read_until).
    #[inline]
    #[track_caller]
    pub fn try_read_arc_until<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        limit: Instant,
    ) -> Option<ArcPyRwLockReadGuard<'py, T>> {
        let patience = || Patience::Until(limit);
        in_time(Self::read_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        ))
    }

    /// Locks for writing, waiting detached from the interpreter if it has to.
    ///
    /// # Panics
    ///
    /// If the wait could never end, with the message of the [`DeadlockError`]: see below. Nothing is locked then, and the lock is as
    /// it was.
    ///
    /// # Deadlocks
    ///
    /// A wait could never end if the thread is reading or writing already, or waits to write; if it is part of a cycle of threads each of which
    /// waits for a lock that the next one holds; if the interpreter is shutting down and another thread holds the lock; and
    /// if its writer, or a reader, was left behind by a fork.
    #[inline]
    #[track_caller]
    pub fn write<'a>(&'a self, py: Python<'a>) -> PyRwLockWriteGuard<'a, T> {
        match self.write_patiently(py, || Patience::Forever, Location::caller()) {
            Ok(guard) => guard,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// [`write`](Self::write) under the name that `pyo3::sync::RwLockExt` gives it, and without a `Result`.
    #[inline]
    #[track_caller]
    pub fn write_py_attached<'a>(&'a self, py: Python<'a>) -> PyRwLockWriteGuard<'a, T> {
        self.write(py)
    }

    /// Locks for writing, or gives an error if the wait could never end.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`] where [`write`](Self::write) panics.
    #[inline]
    #[track_caller]
    pub fn write_checked<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Result<PyRwLockWriteGuard<'a, T>, DeadlockError> {
        self.write_patiently(py, || Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// Locks for writing, and lets Ctrl-C end the wait, as [`PyMutex::lock_interruptible`](crate::PyMutex::lock_interruptible).
    ///
    /// # Errors
    ///
    /// What a signal handler raised (`KeyboardInterrupt`, as a rule), or a [`DeadlockError`] where [`write`](Self::write) panics.
    #[inline]
    #[track_caller]
    pub fn write_interruptible<'a>(
        &'a self,
        py: Python<'a>,
    ) -> PyResult<PyRwLockWriteGuard<'a, T>> {
        Ok(self.write_patiently(py, || Patience::Interruptible, Location::caller())?)
    }

    /// Locks for writing, and says whether a thread has panicked while it wrote, as [`std::sync::RwLock::write`] does.
    ///
    /// # Errors
    ///
    /// The guard, wrapped, if the lock is poisoned.
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write).
    #[inline]
    #[track_caller]
    pub fn write_poisonable<'a>(&'a self, py: Python<'a>) -> LockResult<PyRwLockWriteGuard<'a, T>> {
        let guard = self.write(py);
        if self.is_poisoned() {
            Err(PoisonError::new(guard))
        } else {
            Ok(guard)
        }
    }

    /// Locks for writing if that needs no waiting.
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

    /// Locks for writing, waiting no longer than `limit`. A limit too long to be added to the current time is no limit.
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write), if the limit is none.
    #[inline]
    #[track_caller]
    pub fn try_write_for<'a>(
        &'a self,
        py: Python<'a>,
        limit: Duration,
    ) -> Option<PyRwLockWriteGuard<'a, T>> {
        in_time(self.write_patiently(py, || Patience::for_duration(limit), Location::caller()))
    }

    /// Locks for writing, waiting no longer than until `limit`.
    #[inline]
    #[track_caller]
    pub fn try_write_until<'a>(
        &'a self,
        py: Python<'a>,
        limit: Instant,
    ) -> Option<PyRwLockWriteGuard<'a, T>> {
        in_time(self.write_patiently(py, || Patience::Until(limit), Location::caller()))
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

    /// Attaches to the interpreter, locks for writing and runs `f`: for code that has no token. What is said at
    /// [`PyMutex::try_with_attached`](crate::PyMutex::try_with_attached) holds here too.
    ///
    /// # Errors
    ///
    /// [`TryAttachedError::NotAttached`] if the thread cannot attach, [`TryAttachedError::Deadlock`] where [`write`](Self::write)
    /// panics. `f` has not run in either case.
    #[track_caller]
    pub fn try_write_attached<R>(
        &self,
        f: impl for<'py> FnOnce(Python<'py>, &mut T) -> R,
    ) -> Result<R, TryAttachedError> {
        let asked_at = Location::caller();
        Python::try_attach(|py| {
            let locked = self.write_patiently(py, || Patience::Forever, asked_at);
            let mut guard = locked.map_err(Refusal::into_deadlock)?;
            Ok(f(py, &mut guard))
        })
        .unwrap_or(Err(TryAttachedError::NotAttached))
    }

    /// Locks for writing, with a guard that owns a reference to the lock and not a borrow. It still lives no longer than the token.
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write).
    #[inline]
    #[track_caller]
    pub fn write_arc<'py>(this: &Arc<Self>, py: Python<'py>) -> ArcPyRwLockWriteGuard<'py, T> {
        match Self::write_arc_patiently(this, py, || Patience::Forever, Location::caller()) {
            Ok(guard) => guard,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    #[inline]
    fn write_arc_patiently<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<ArcPyRwLockWriteGuard<'py, T>, Refusal> {
        this.raw.write(py, patience, asked_at)?;
        // SAFETY: this thread has just locked for writing.
        Ok(unsafe { ArcGuard::new(Arc::clone(this), py, PoisonOnPanic::new()) })
    }

    /// [`write_arc`](Self::write_arc) if that needs no waiting, as [`try_write`](Self::try_write).
    #[inline]
    #[track_caller]
    pub fn try_write_arc<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> Option<ArcPyRwLockWriteGuard<'py, T>> {
        let locked = this.raw.try_write(py, Location::caller());
        // SAFETY: this thread has just locked for writing.
        locked.then(|| unsafe { ArcGuard::new(Arc::clone(this), py, PoisonOnPanic::new()) })
    }

    /// [`write_arc`](Self::write_arc), with an error where that panics.
    ///
    /// # Errors
    ///
    /// As [`write_checked`](Self::write_checked).
    #[inline]
    #[track_caller]
    pub fn write_arc_checked<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> Result<ArcPyRwLockWriteGuard<'py, T>, DeadlockError> {
        Self::write_arc_patiently(this, py, || Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// [`write_arc`](Self::write_arc), and lets Ctrl-C end the wait.
    ///
    /// # Errors
    ///
    /// As [`write_interruptible`](Self::write_interruptible).
    #[inline]
    #[track_caller]
    pub fn write_arc_interruptible<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> PyResult<ArcPyRwLockWriteGuard<'py, T>> {
        let patience = || Patience::Interruptible;
        Ok(Self::write_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        )?)
    }

    /// [`write_arc`](Self::write_arc), waiting no longer than `limit`, as [`try_write_for`](Self::try_write_for).
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write), if the limit is none.
    #[inline]
    #[track_caller]
    pub fn try_write_arc_for<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        limit: Duration,
    ) -> Option<ArcPyRwLockWriteGuard<'py, T>> {
        let patience = || Patience::for_duration(limit);
        in_time(Self::write_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        ))
    }

    /// [`write_arc`](Self::write_arc), waiting no longer than until `limit`, as [`try_write_until`](Self::try_write_until).
    #[inline]
    #[track_caller]
    pub fn try_write_arc_until<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        limit: Instant,
    ) -> Option<ArcPyRwLockWriteGuard<'py, T>> {
        let patience = || Patience::Until(limit);
        in_time(Self::write_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        ))
    }

    /// The data, without locking: the exclusive borrow proves that nobody else has it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Whether a thread reads or writes at this moment, or waits to write. By the time the caller looks at the answer it may be
    /// wrong: for statistics and assertions.
    pub fn is_locked(&self) -> bool {
        self.raw.has_owner() || self.raw.has_readers()
    }

    /// Whether a thread writes at this moment, or waits until readers have left in order to write. As
    /// [`is_locked`](Self::is_locked), for statistics and assertions.
    pub fn is_write_locked(&self) -> bool {
        self.raw.has_owner()
    }

    /// Whether a thread has panicked while it wrote, and nobody has cleared that since.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Forgets that a thread has panicked while it wrote.
    pub fn clear_poison(&self, py: Python<'_>) {
        self.raw.clear_poison(py);
    }

    /// Takes the lock over from threads that a fork left behind, for writing, with the data as they left them, and poisons it. As
    /// [`PyMutex::recover_abandoned`](crate::PyMutex::recover_abandoned). `None` if no thread that is gone holds the lock, or one does
    /// that exists.
    ///
    /// # Safety
    ///
    /// - The data are a valid `T`. A writer may have been anywhere when it was left behind, between any two instructions.
    /// - The calling thread has no reference to the data, from a loan of a thread that is gone.
    #[track_caller]
    pub unsafe fn recover_abandoned<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Option<PyRwLockWriteGuard<'a, T>> {
        let taken = self.raw.take_abandoned(py, Location::caller());
        // SAFETY: this thread has just taken the lock over, from threads that do not exist.
        taken.then(|| unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Returns the data to the garbage collector, in `__traverse__`.
    ///
    /// Returns `None` while a thread writes, or waits for readers to leave in order to write. The
    /// collector then takes the objects in the data for reachable, and visits them again in a later
    /// collection. The reference ends with the visit.
    ///
    /// [Exactly one Python object](crate::PyMutex#one-owner) may own the data and visit them.
    /// [`PyMutex::traverse`](crate::PyMutex::traverse) has an example.
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> Option<&'v T> {
        if self.raw.has_owner() {
            return None;
        }
        // SAFETY: a `PyVisit` exists only for the length of a traversal, and the result does not outlive it. During one, no
        // thread becomes the owner: with a GIL this thread has it and runs nothing but the traversal; without, the
        // world is stopped, and only attached threads that run become owners (invariant I3). So no `&mut T` exists until the traversal
        // is over; readers share the data with the collector, as they do with each other. What the last owner wrote is seen:
        // `has_owner` acquires.
        Some(unsafe { &*self.data.get() })
    }
}

/// The outcome of a wait with a limit.
#[track_caller]
fn in_time<G>(locked: Result<G, Refusal>) -> Option<G> {
    match locked {
        Ok(guard) => Some(guard),
        Err(Refusal::TimedOut) => None,
        // The limit was none.
        Err(refusal) => refusal.into_deadlock().panic(),
    }
}

impl<T: Default> Default for PyRwLock<T> {
    fn default() -> Self {
        PyRwLock::new(T::default())
    }
}

impl<T> From<T> for PyRwLock<T> {
    fn from(value: T) -> Self {
        PyRwLock::new(value)
    }
}

/// Shows whether the lock is locked and poisoned, not the data: that would need the lock.
impl<T: ?Sized> fmt::Debug for PyRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyRwLock")
            .field("locked", &self.is_locked())
            .field("write_locked", &self.is_write_locked())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}
