//! [`PyMutex`]: a mutex for attached threads, which detach only to wait.

mod guard;
mod raw;

use std::{
    cell::UnsafeCell,
    fmt,
    panic::{Location, RefUnwindSafe, UnwindSafe},
    sync::Arc,
};

use pyo3::{prelude::*, pyclass::PyVisit};

pub use self::guard::{ArcPyMutexGuard, MappedPyMutexGuard, PyMutexGuard};
use self::raw::RawMutex;
use crate::{
    error::{DeadlockError, TryAttachedError, WaitError},
    guard::{Guard, PoisonOnPanic},
    wait::{Failure, Wait},
};

/// A mutual exclusion lock for data that attached threads share.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyMutex;
///
/// static NAMES: PyMutex<Vec<String>> = PyMutex::new(Vec::new());
///
/// #[pyfunction]
/// fn add(py: Python<'_>, name: String) -> usize {
///     let mut names = NAMES.lock(py);
///     names.push(name);
///     names.len()
/// }
/// # Python::initialize();
/// # Python::attach(|py| assert_eq!(add(py, "Ada".into()), 1));
/// ```
///
/// A thread that must wait detaches from the interpreter until the mutex is available. The owner,
/// the garbage collector and other threads can proceed meanwhile. A thread that need not wait stays
/// attached, and its critical sections are not suspended.
///
/// Locking an uncontended mutex is one atomic operation on free-threaded Python, and a load and a
/// store on builds with a GIL.
///
/// # Detached work under the lock
///
/// A guard stays on the thread that locked the mutex, and that thread must be attached to drop it.
/// The data can be lent to code that runs detached:
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyMutex;
///
/// fn heavy(data: &mut Vec<u64>) {
///     data.iter_mut().for_each(|x| *x = x.wrapping_mul(*x));
/// }
///
/// fn square_all(py: Python<'_>, mutex: &PyMutex<Vec<u64>>) {
///     let mut guard = mutex.lock(py);
///     let data = &mut *guard; // lend the data, not the guard
///     py.detach(|| heavy(data)); // the mutex stays locked, other threads run Python
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     let mutex = PyMutex::new(vec![2, 3]);
/// #     square_all(py, &mutex);
/// #     assert_eq!(*mutex.lock(py), [4, 9]);
/// # });
/// ```
///
/// # Compiler errors
///
/// *A guard is used in a closure that runs detached.*
///
/// ```compile_fail,E0277
/// # use pyo3::prelude::*;
/// # use pyo3_sync::PyMutex;
/// # fn heavy(_data: &mut Vec<u64>) {}
/// fn square_all(py: Python<'_>, mutex: &PyMutex<Vec<u64>>) {
///     let mut guard = mutex.lock(py);
///     py.detach(|| heavy(&mut guard));
/// }
/// ```
///
/// ```text
/// error[E0277]: `*mut pyo3::Python<'static>` cannot be sent between threads safely
///   |
/// 3 |     py.detach(|| heavy(&mut guard));
///   |        ------ --^^^^^^^^^^^^^^^^^^
///   |        |      |
///   |        |      `*mut pyo3::Python<'static>` cannot be sent between threads safely
///   |        |      within this `{closure@src/lib.rs:3:15: 3:17}`
///   |        required by a bound introduced by this call
///   |
///   = help: within `{closure@src/lib.rs:3:15: 3:17}`, the trait `Send` is not implemented for ..
/// note: required because it appears within the type `Guard<'_, Locked, Exclusive<Vec<u64>>>`
/// note: required because it's used within this closure
/// ```
///
/// `Guard<'_, Locked, Exclusive<Vec<u64>>>` is the full name of `PyMutexGuard<'_, Vec<u64>>`.
/// Dropping it unlocks the mutex, which only an attached thread may do. Borrow the data first.
///
/// *A function locks the mutex and returns the guard.*
///
/// ```compile_fail
/// # use pyo3::prelude::*;
/// # use pyo3_sync::{PyMutex, PyMutexGuard};
/// struct Cache { entries: PyMutex<Vec<u64>> }
///
/// impl Cache {
///     fn lock(&self, py: Python<'_>) -> PyMutexGuard<'_, Vec<u64>> {
///         self.entries.lock(py)
///     }
/// }
/// ```
///
/// ```text
/// error: lifetime may not live long enough
///   |
/// 5 |     fn lock(&self, py: Python<'_>) -> PyMutexGuard<'_, Vec<u64>> {
///   |             -      -- has type `pyo3::Python<'1>`
///   |             |
///   |             let's call the lifetime of this reference `'2`
/// 6 |         self.entries.lock(py)
///   |         ^^^^^^^^^^^^^^^^^^^^^ method was supposed to return data with lifetime `'2` but it
///   |                               is returning data with lifetime `'1`
///   |
/// help: consider introducing a named lifetime parameter and update trait if needed
/// ```
///
/// A guard outlives neither the mutex nor the token. All three need the same lifetime, including
/// `self`, which the suggestion of the compiler omits:
///
/// ```
/// # use pyo3::prelude::*;
/// # use pyo3_sync::{PyMutex, PyMutexGuard};
/// # struct Cache { entries: PyMutex<Vec<u64>> }
/// impl Cache {
///     fn lock<'a>(&'a self, py: Python<'a>) -> PyMutexGuard<'a, Vec<u64>> {
///         self.entries.lock(py)
///     }
/// }
/// ```
///
/// # Fairness
///
/// Any thread may lock an unlocked mutex, even if other threads wait for it. If the first waiter
/// has waited for 1 ms, the next unlock reserves the mutex for it. The reservation expires after 10
/// ms.
///
/// # Poisoning
///
/// A panic while a guard is alive poisons the mutex. [`lock`](Self::lock) ignores poisoning,
/// because a Python exception is no panic, and most panics leave the data consistent. Call
/// [`is_poisoned`](Self::is_poisoned) under the guard to handle it:
///
/// ```
/// # use pyo3::prelude::*;
/// # use pyo3_sync::PyMutex;
/// fn push(py: Python<'_>, log: &PyMutex<Vec<String>>, line: String) {
///     let mut guard = log.lock(py);
///     if log.is_poisoned() {
///         guard.clear(); // It may be inconsistent.
///         log.clear_poison(py);
///     }
///     guard.push(line);
/// }
/// # Python::initialize();
/// # Python::attach(|py| push(py, &PyMutex::default(), String::new()));
/// ```
///
/// # Forgotten guards
///
/// [`std::mem::forget`] of a guard leaves the mutex locked, as with [`std::sync::Mutex`].
///
/// # Differences from `std` and parking_lot
///
/// | elsewhere | here |
/// |---|---|
/// | `lock`, `try_lock` of `std` report poisoning | [`is_poisoned`](Self::is_poisoned) |
/// | `try_lock_for`, `try_lock_until` of parking_lot | [`lock_with`](Self::lock_with) |
/// | `get_mut`, `into_inner` of `std` report poisoning | they ignore it |
/// | `lock_arc` of `lock_api` | associated function: `PyMutex::lock_arc(&mutex, py)` |
/// | `unlock_fair`, `bump` | not needed: see [Fairness](#fairness) |
/// | `raw`, `force_unlock`, `data_ptr`, .. | not available: only a guard proves an attached owner |
/// | `ReentrantMutex` | [`PyProtected`](crate::PyProtected), which supports re-entrant code |
/// | `pyo3::sync::PyMutex::lock(&self)` | `lock` takes a token and returns the guard |
/// | locking while detached | [`try_with_attached`](Self::try_with_attached), [`ext`](crate::ext) |
pub struct PyMutex<T: ?Sized> {
    raw: RawMutex,
    data: UnsafeCell<T>,
}

// SAFETY: sending the mutex sends its data, and `T: Send`.
unsafe impl<T: ?Sized + Send> Send for PyMutex<T> {}
// SAFETY:
// - Only the owner has a reference to the data, so sharing the mutex sends the data between
//   threads, and `T: Send`.
// - `traverse` returns a reference only while there is no owner.
unsafe impl<T: ?Sized + Send> Sync for PyMutex<T> {}

// A panic under the lock poisons it, which shows that the data may be inconsistent.
impl<T: ?Sized> UnwindSafe for PyMutex<T> {}
impl<T: ?Sized> RefUnwindSafe for PyMutex<T> {}

impl<T> PyMutex<T> {
    /// Creates an unlocked mutex.
    ///
    /// ```
    /// use pyo3_sync::PyMutex;
    ///
    /// static NAMES: PyMutex<Vec<String>> = PyMutex::new(Vec::new());
    /// ```
    #[track_caller]
    pub const fn new(value: T) -> Self {
        PyMutex {
            raw: RawMutex::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Replaces the data of a mutex whose owner was lost to a fork, and unlocks it.
    ///
    /// The old data are leaked. Only the thread that called `fork` exists in the child. A mutex
    /// that another thread held stays locked there, and locking it is reported as a deadlock. A
    /// server that forks may reset its caches:
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyMutex;
    /// static CACHE: PyMutex<Vec<Py<PyAny>>> = PyMutex::new(Vec::new());
    ///
    /// /// Registered with `os.register_at_fork(after_in_child=...)`.
    /// #[pyfunction]
    /// fn after_fork_in_child(py: Python<'_>) {
    ///     // SAFETY: no thread that holds the cache lends it to another one.
    ///     let _ = unsafe { CACHE.reset_abandoned(py, Vec::new()) };
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `value` if the mutex has no owner, or one that exists.
    ///
    /// # Safety
    ///
    /// The calling thread has no reference to the old data. It can have one only if the owner lent
    /// it before the fork, for example as a part of `&mut *guard` passed to a scoped thread. The
    /// loan then outlasts the owner.
    #[track_caller]
    pub unsafe fn reset_abandoned(&self, py: Python<'_>, value: T) -> Result<(), T> {
        if !self.raw.try_own_abandoned(py, Location::caller()) {
            return Err(value);
        }
        // SAFETY:
        // - This thread owns the mutex, which it acquired from an owner that does not exist.
        // - The caller guarantees that this thread has no reference to the data. Every other thread
        //   of this process was created after the fork.
        // - The old data may be inconsistent. They are neither read nor dropped.
        unsafe { self.data.get().write(value) };
        self.raw.clear_poison(py);
        // SAFETY: this thread owns the mutex, and has no reference to the data.
        unsafe { self.raw.unlock(py) };
        Ok(())
    }

    /// Consumes the mutex, returning its value.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> PyMutex<T> {
    /// Locks the mutex, blocking until it is available.
    ///
    /// The thread detaches while it waits.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// use pyo3_sync::PyMutex;
    ///
    /// static HITS: PyMutex<u64> = PyMutex::new(0);
    ///
    /// #[pyfunction]
    /// fn hit(py: Python<'_>) {
    ///     *HITS.lock(py) += 1;
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics with the message of the [`DeadlockError`] if the wait could never end. The mutex is
    /// unchanged.
    ///
    /// # Deadlocks
    ///
    /// These waits could never end:
    ///
    /// - The thread holds the mutex already.
    /// - The thread is part of a cycle, in which each thread waits for a lock that the next one
    ///   holds.
    /// - Another thread holds the mutex, and the interpreter is shutting down.
    /// - The owner of the mutex was lost to a fork.
    ///
    /// [`lock_checked`](Self::lock_checked) returns an error instead.
    ///
    /// Do not call `lock` in a destructor. If the thread unwinds while it holds the mutex, the
    /// panic of a destructor aborts the process. Use `lock_checked` or
    /// [`try_lock`](Self::try_lock), and skip the clean-up if the mutex is not available.
    #[inline]
    #[track_caller]
    pub fn lock<'a>(&'a self, py: Python<'a>) -> PyMutexGuard<'a, T> {
        match self.lock_at(py, &Wait::FOREVER, Location::caller()) {
            Ok(guard) => guard,
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    #[inline]
    pub(crate) fn lock_at<'a>(
        &'a self,
        py: Python<'a>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<PyMutexGuard<'a, T>, Failure> {
        self.raw.lock(py, wait, caller)?;
        // SAFETY: this thread has just locked the mutex.
        Ok(unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Locks the mutex, or returns an error if the wait could never end.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyMutex;
    /// #[pyfunction]
    /// fn call_back(py: Python<'_>, callback: Bound<'_, PyAny>) -> PyResult<()> {
    ///     static CALLS: PyMutex<u64> = PyMutex::new(0);
    ///     // If `callback` calls `call_back` again, it gets an exception instead of a hang.
    ///     let mut calls = CALLS.lock_checked(py)?;
    ///     callback.call0()?;
    ///     *calls += 1;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`] where [`lock`](Self::lock) panics.
    #[inline]
    #[track_caller]
    pub fn lock_checked<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Result<PyMutexGuard<'a, T>, DeadlockError> {
        self.lock_at(py, &Wait::FOREVER, Location::caller())
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Locks the mutex, waiting as `wait` says: with a timeout, interruptible by signals, or both.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyMutex, Wait};
    /// # use std::time::Duration;
    /// static INDEX: PyMutex<Vec<u64>> = PyMutex::new(Vec::new());
    ///
    /// /// Raises `TimeoutError` after a minute, and `KeyboardInterrupt` on Ctrl-C.
    /// #[pyfunction]
    /// fn count(py: Python<'_>) -> PyResult<usize> {
    ///     let wait = Wait::new().timeout(Duration::from_secs(60)).interruptible();
    ///     Ok(INDEX.lock_with(py, wait)?.len())
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert_eq!(count(py).unwrap(), 0));
    /// ```
    ///
    /// A [`Duration`](std::time::Duration) or an [`Instant`](std::time::Instant) is a timeout or
    /// deadline that signals do not interrupt:
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyMutex, WaitError};
    /// # use std::time::Duration;
    /// fn push(py: Python<'_>, log: &PyMutex<Vec<String>>, line: String) -> Result<(), WaitError> {
    ///     log.lock_with(py, Duration::from_millis(100))?.push(line);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] where [`lock`](Self::lock) panics, unless there is a timeout. A
    ///   thread that already holds the mutex waits until the timeout expires.
    #[inline]
    #[track_caller]
    pub fn lock_with<'a>(
        &'a self,
        py: Python<'a>,
        wait: impl Into<Wait>,
    ) -> Result<PyMutexGuard<'a, T>, WaitError> {
        self.lock_at(py, &wait.into(), Location::caller())
            .map_err(|failure| WaitError::new(py, failure))
    }

    /// Attempts to lock the mutex without blocking.
    ///
    /// Returns `None` if a thread holds the mutex, including the calling one, or if it is reserved
    /// for another thread.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyMutex;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let mutex = PyMutex::new(1);
    /// let guard = mutex.lock(py);
    /// assert!(mutex.try_lock(py).is_none());
    /// drop(guard);
    /// assert_eq!(mutex.try_lock(py).as_deref(), Some(&1));
    /// # });
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_lock<'a>(&'a self, py: Python<'a>) -> Option<PyMutexGuard<'a, T>> {
        let locked = self.raw.try_lock(py, Location::caller());
        // SAFETY: this thread has just locked the mutex.
        locked.then(|| unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Runs `f` with the data, under the lock.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyMutex;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let stack = PyMutex::new(vec![1, 2, 3]);
    /// assert_eq!(stack.with(py, Vec::pop), Some(3));
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock(py))
    }

    /// Attaches to the interpreter, locks the mutex and runs `f` with the data.
    ///
    /// For code without a token, such as implementations of `Clone` or `Serialize`.
    ///
    /// - Attaching costs far more than locking. Do not call this for each item in a hot loop.
    /// - Do not call this on a thread for which an attached thread waits, for example in `join`. On
    ///   builds with a GIL both would block.
    /// - Do not call this on a Rust thread that may outlive the interpreter. CPython, up to 3.15 at
    ///   least, can crash if a thread attaches for the first time during finalization, and no check
    ///   prevents it. Stop such threads in an `atexit` function.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyMutex, TryAttachedError};
    /// struct Table(PyMutex<Vec<u64>>);
    ///
    /// impl Table {
    ///     fn try_clone(&self) -> Result<Table, TryAttachedError> {
    ///         let rows = self.0.try_with_attached(|_py, rows| rows.clone())?;
    ///         Ok(Table(PyMutex::new(rows)))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// `f` has not run in either case:
    ///
    /// - [`TryAttachedError::NotAttached`] if the thread cannot attach: there is no interpreter, it
    ///   is shutting down, or the thread is in a traversal of the garbage collector.
    /// - [`TryAttachedError::Deadlock`] where [`lock`](Self::lock) panics.
    ///
    /// Destructors must handle the second error. A callback or a collection may drop an object
    /// while the thread holds this very mutex, and an update skipped then is lost. Queue the update
    /// for the owner, or keep what destructors update in atomics.
    #[track_caller]
    pub fn try_with_attached<R>(
        &self,
        f: impl for<'py> FnOnce(Python<'py>, &mut T) -> R,
    ) -> Result<R, TryAttachedError> {
        let caller = Location::caller();
        Python::try_attach(|py| {
            let locked = self.lock_at(py, &Wait::FOREVER, caller);
            let mut guard = locked.map_err(|failure| DeadlockError::new(py, failure))?;
            Ok(f(py, &mut guard))
        })
        .unwrap_or(Err(TryAttachedError::NotAttached))
    }

    /// Locks a mutex in an [`Arc`]. The guard owns a reference to the mutex.
    ///
    /// The guard still cannot outlive the token. In a thread-local or a `'static` object it could
    /// be dropped by a detached thread. [`PyMutexGuard::into_arc`] converts the guards of other
    /// methods.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{ArcPyMutexGuard, PyMutex};
    /// # use std::sync::Arc;
    /// fn first<'py>(py: Python<'py>, all: &[Arc<PyMutex<u64>>]) -> ArcPyMutexGuard<'py, u64> {
    ///     PyMutex::lock_arc(&all[0], py)
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    #[inline]
    #[track_caller]
    pub fn lock_arc<'py>(this: &Arc<Self>, py: Python<'py>) -> ArcPyMutexGuard<'py, T> {
        PyMutexGuard::into_arc(this.lock(py), this, py)
    }

    /// Returns a mutable reference to the data.
    ///
    /// No locking is needed: the exclusive borrow proves that no guard exists.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Returns whether a thread holds the mutex.
    ///
    /// The answer may be outdated when the caller uses it.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Returns whether the mutex is poisoned.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Clears the poisoned state of the mutex.
    pub fn clear_poison(&self, py: Python<'_>) {
        self.raw.clear_poison(py);
    }

    /// Acquires a mutex whose owner was lost to a fork, with its data, and poisons it.
    ///
    /// Returns `None` if the mutex has no owner, or one that exists.
    /// [`reset_abandoned`](PyMutex::reset_abandoned) has weaker preconditions.
    ///
    /// # Safety
    ///
    /// - The data are a valid `T`. The fork may have interrupted the owner between any two
    ///   instructions, for example while it moved the elements of a vector.
    /// - The calling thread has no reference to the data that the owner lent.
    #[track_caller]
    pub unsafe fn recover_abandoned<'a>(&'a self, py: Python<'a>) -> Option<PyMutexGuard<'a, T>> {
        let taken = self.raw.try_own_abandoned(py, Location::caller());
        // SAFETY: this thread has just acquired the mutex.
        taken.then(|| unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Returns the data to the garbage collector, in `__traverse__`.
    ///
    /// Returns `None` while a thread holds the mutex. The collector then treats the objects in the
    /// data as reachable, and visits them in a later collection. The reference ends with the visit.
    ///
    /// # One owner
    ///
    /// Exactly one Python object may own the contents of a lock or cell, and visits each reference
    /// in them once. The collector subtracts a reference for each visit. It clears an object if all
    /// references to it were subtracted and no reachable object visits it.
    ///
    /// If two objects share the contents, for example as an `Arc<PyMutex<Vec<Py<PyAny>>>>`, and
    /// both visit them, the collector subtracts twice. If only one of them visits the contents, the
    /// collector does not see that the other uses them. Either way it clears objects that are in
    /// use: a `list` becomes empty. Let one object own the contents instead. Each other object
    /// holds a `Py` to the owner, and visits that.
    ///
    /// # Examples
    ///
    /// ```
    /// use pyo3::{PyTraverseError, PyVisit, prelude::*};
    /// use pyo3_sync::PyMutex;
    ///
    /// #[pyclass(frozen)]
    /// struct Listeners(PyMutex<Vec<Py<PyAny>>>);
    ///
    /// #[pymethods]
    /// impl Listeners {
    ///     fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
    ///         for listener in self.0.traverse(&visit).into_iter().flatten() {
    ///             visit.call(listener)?;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn __clear__(&self, py: Python<'_>) {
    ///         // The objects are dropped after the guard: their finalizers may lock the mutex.
    ///         let _listeners = std::mem::take(&mut *self.0.lock(py));
    ///     }
    /// }
    /// ```
    pub fn traverse<'v>(&'v self, _visit: &'v PyVisit<'_>) -> Option<&'v T> {
        if self.is_locked() {
            return None;
        }
        // SAFETY:
        // - The reference cannot outlive the `PyVisit`, which exists only during a traversal.
        // - No thread acquires the mutex during a traversal, so no `&mut T` appears. With a GIL,
        //   this thread holds it and runs only the traversal. On free-threaded builds the world is
        //   stopped, and only running attached threads acquire locks (I3).
        // - The writes of the last owner are visible: `is_locked` is an acquire load.
        Some(unsafe { &*self.data.get() })
    }
}

impl<T: Default> Default for PyMutex<T> {
    #[track_caller]
    fn default() -> Self {
        PyMutex::new(T::default())
    }
}

impl<T> From<T> for PyMutex<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        PyMutex::new(value)
    }
}

/// Shows whether the mutex is locked and poisoned. Showing the data would need the lock.
impl<T: ?Sized> fmt::Debug for PyMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyMutex")
            .field("locked", &self.is_locked())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}
