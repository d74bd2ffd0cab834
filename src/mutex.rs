//! [`PyMutex`]: mutual exclusion between attached threads, which detaches only to wait.

mod guard;
mod raw;

use std::{
    cell::UnsafeCell,
    fmt,
    panic::{Location, RefUnwindSafe, UnwindSafe},
    sync::{Arc, LockResult, PoisonError},
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*, pyclass::PyVisit};

pub use self::guard::{ArcPyMutexGuard, MappedPyMutexGuard, PyMutexGuard};
use self::raw::RawMutex;
use crate::{
    deadlock::DeadlockError,
    guard::{ArcGuard, Guard, PoisonOnPanic},
    wait::{Patience, Refusal},
};

/// A mutex for data that attached threads share.
///
/// Same name as `pyo3::sync::PyMutex`, not the same signature: [`lock`](Self::lock) takes the token, and gives the
/// guard rather than a `Result`.
///
/// Locking a free mutex costs one atomic operation on free-threaded Python, and a load and a store where there is
/// a GIL. A thread that has to wait detaches from the interpreter for that time, so that the GIL, the garbage
/// collector and the owner of the mutex can go on; a thread that has not does nothing to the interpreter, and in
/// particular does not suspend the critical sections it is in.
///
/// # Heavy work under the lock
///
/// A guard stays on the thread that took it, attached. What it guards can be lent to code that runs detached:
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
/// # Two compiler errors, and what to do
///
/// *A guard used in a closure that runs detached.*
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
///   = help: within `{closure@src/lib.rs:3:15: 3:17}`, the trait `Send` is not implemented for `*mut pyo3::Python<'static>`
/// note: required because it appears within the type `PyMutexGuard<'_, Vec<u64>>`
/// note: required because it's used within this closure
/// ```
///
/// A guard unlocks when it is dropped, and only an attached thread may do that. Borrow the data first, as above:
/// `let data = &mut *guard;`.
///
/// *A helper that locks and gives the guard back.*
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
///   |         ^^^^^^^^^^^^^^^^^^^^^ method was supposed to return data with lifetime `'2` but it is returning data with lifetime `'1`
///   |
/// help: consider introducing a named lifetime parameter and update trait if needed
/// ```
///
/// The guard lives no longer than the mutex and the token, so all three need the same lifetime, `self` included,
/// which the compiler's suggestion leaves out:
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
/// A free mutex goes to whoever asks first. A sleeper that has waited for a millisecond gets the mutex reserved for
/// it when it is next unlocked; if it does not come within ten, the reservation lapses.
///
/// # Poison
///
/// A panic while a guard is alive poisons the mutex. [`lock`](Self::lock) does not care, because a Python exception
/// is no panic and most panics leave nothing half-done; code that does care asks
/// [`lock_poisonable`](Self::lock_poisonable) or [`is_poisoned`](Self::is_poisoned).
///
/// # Forgotten guards
///
/// As with [`std::sync::Mutex`], [`std::mem::forget`] of a guard leaves the mutex locked for ever.
///
/// # Not here
///
/// - `std`'s `lock` and `try_lock` tell of poison in their results. Here [`lock_poisonable`](Self::lock_poisonable) does, and for the
///   other ways to lock [`is_poisoned`](Self::is_poisoned), asked under the guard. [`get_mut`](Self::get_mut) and
///   [`into_inner`](PyMutex::into_inner) give the data in any case.
/// - `Debug` that shows the data, which would need the lock.
/// - Signals in waits with a limit: Ctrl-C does not end [`try_lock_for`](Self::try_lock_for), since an `Option` has no room for the
///   exception. Ask for it in between, with limits that are short:
///
///   ```
///   # use pyo3::prelude::*;
///   # use pyo3_sync::{PyMutex, PyMutexGuard};
///   # use std::time::{Duration, Instant};
///   fn rows<'a>(py: Python<'a>, table: &'a PyMutex<Vec<u64>>) -> PyResult<Option<PyMutexGuard<'a, Vec<u64>>>> {
///       let limit = Instant::now() + Duration::from_secs(60);
///       loop {
///           let now = Instant::now();
///           let guard = table.try_lock_until(py, limit.min(now + Duration::from_millis(50)));
///           if guard.is_some() || now >= limit {
///               return Ok(guard);
///           }
///           py.check_signals()?;
///       }
///   }
///   # Python::initialize();
///   # Python::attach(|py| assert!(rows(py, &PyMutex::default()).unwrap().is_some()));
///   ```
/// - An interruptible form of [`try_with_attached`](Self::try_with_attached): it is for code that has nobody to give the exception to.
/// - Of `lock_api`: `lock_arc` is an associated function here, called as `PyMutex::lock_arc(&mutex, py)`. The `*_fair` forms and `bump`:
///   it is fair enough by itself. `raw`, `from_raw`, `data_ptr`, `force_unlock` and `make_guard_unchecked`, which are for locking without
///   a guard: the owner of this mutex is a thread, which must be attached when it unlocks, and the guard is what sees to both.
///   `ReentrantMutex`: a shared borrow of the data is all that it can give; code that comes back is what
///   [`PyProtected`](crate::PyProtected) is for.
/// - Of `pyo3::sync::PyMutex`: locking without a token. Threads that are not attached use [`try_with_attached`](Self::try_with_attached),
///   or a lock of `std` and [`ext`](crate::ext).
pub struct PyMutex<T: ?Sized> {
    raw: RawMutex,
    data: UnsafeCell<T>,
}

// SAFETY: a mutex that is sent takes its data along, which is safe if the data may be sent.
unsafe impl<T: ?Sized + Send> Send for PyMutex<T> {}
// SAFETY: a shared mutex lends its data to one thread at a time, which is like sending it there and back; `T: Sync`
// is not needed, because no two threads ever use a `&T` from it at once. That holds of `traverse` too: see there.
unsafe impl<T: ?Sized + Send> Sync for PyMutex<T> {}

// A panic under the lock may leave the data half-changed, which is what poisoning tells; as for `std::sync::Mutex`.
impl<T: ?Sized> UnwindSafe for PyMutex<T> {}
impl<T: ?Sized> RefUnwindSafe for PyMutex<T> {}

impl<T> PyMutex<T> {
    /// A free mutex that guards `value`.
    ///
    /// ```
    /// use pyo3_sync::PyMutex;
    ///
    /// static NAMES: PyMutex<Vec<String>> = PyMutex::new(Vec::new());
    /// ```
    pub const fn new(value: T) -> Self {
        PyMutex {
            raw: RawMutex::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Makes a mutex usable again whose owner does not exist, with new data. The old data are leaked.
    ///
    /// A process that is forked has a copy of the thread that called `fork`, and of no other. A mutex that another thread
    /// held at that moment stays locked in the child, by nobody, and locking it is reported as a deadlock. A server that
    /// forks may do this for its caches.
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
    /// # Safety
    ///
    /// The calling thread has no reference to the old data. It could only have one that the owner lent it, before the fork,
    /// as a scoped thread to which a part of `&mut *guard` was passed: then the fork left the owner behind, and not
    /// the loan.
    ///
    /// # Errors
    ///
    /// The new data back, if the mutex is free or its owner exists.
    #[track_caller]
    pub unsafe fn reset_abandoned(&self, py: Python<'_>, value: T) -> Result<(), T> {
        if !self.raw.take_abandoned(py, Location::caller()) {
            return Err(value);
        }
        // SAFETY: this thread has just taken the mutex over from an owner that does not exist, and holds no loan of the
        // data, says the caller; any other thread of this process is younger than the fork. They are overwritten without
        // being read or dropped, so it does not matter in what state they were.
        unsafe { self.data.get().write(value) };
        self.raw.clear_poison(py);
        // SAFETY: this thread owns the mutex, and has made no reference to the data.
        unsafe { self.raw.unlock(py) };
        Ok(())
    }

    /// Takes the mutex apart. No lock is needed, since nobody else can have it.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> PyMutex<T> {
    /// Locks the mutex, waiting for it detached from the interpreter if it has to.
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
    /// If the wait could never end, with the message of the [`DeadlockError`]: see below. Nothing is locked then, and
    /// the mutex is as it was.
    ///
    /// # Deadlocks
    ///
    /// A wait could never end if the thread holds the mutex already; if it is part of a cycle of threads each of which
    /// waits for a lock that the next one holds; if the interpreter is shutting down and another thread holds the mutex;
    /// and if its holder was left behind by a fork. [`lock_checked`](Self::lock_checked) gives an error for these.
    ///
    /// Do not call `lock` in a destructor. A destructor that runs while its thread unwinds with the
    /// mutex held aborts the process, because a panic must not leave it. Use `lock_checked` or
    /// [`try_lock`](Self::try_lock), and skip the clean-up if the mutex is not available.
    #[inline]
    #[track_caller]
    pub fn lock<'a>(&'a self, py: Python<'a>) -> PyMutexGuard<'a, T> {
        match self.lock_patiently(py, || Patience::Forever, Location::caller()) {
            Ok(guard) => guard,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    #[inline]
    pub(crate) fn lock_patiently<'a>(
        &'a self,
        py: Python<'a>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<PyMutexGuard<'a, T>, Refusal> {
        self.raw.lock(py, patience, asked_at)?;
        // SAFETY: this thread has just locked the mutex.
        Ok(unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// [`lock`](Self::lock) under the name that `pyo3::sync::MutexExt` gives it, and without a `Result`.
    #[inline]
    #[track_caller]
    pub fn lock_py_attached<'a>(&'a self, py: Python<'a>) -> PyMutexGuard<'a, T> {
        self.lock(py)
    }

    /// Locks the mutex, or gives an error if the wait could never end.
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
    /// A [`DeadlockError`] where [`lock`](Self::lock) panics.
    #[inline]
    #[track_caller]
    pub fn lock_checked<'a>(
        &'a self,
        py: Python<'a>,
    ) -> Result<PyMutexGuard<'a, T>, DeadlockError> {
        self.lock_patiently(py, || Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// Locks the mutex, and lets Ctrl-C end the wait: a main thread that waits runs Python's signal handlers. Deadlocks are
    /// reported as by [`lock_checked`](Self::lock_checked).
    ///
    /// For locks that may be held for long, in functions that Python code calls: as `threading.Lock.acquire`, it looks for
    /// signals, every 50 ms, when it is called on Python's main thread; other threads are not woken for that.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyMutex;
    /// static INDEX: PyMutex<Vec<u64>> = PyMutex::new(Vec::new());
    ///
    /// #[pyfunction]
    /// fn count(py: Python<'_>) -> PyResult<usize> {
    ///     Ok(INDEX.lock_interruptible(py)?.len())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// What a signal handler raised (`KeyboardInterrupt`, as a rule), or a [`DeadlockError`] where [`lock`](Self::lock)
    /// panics.
    ///
    /// # Panics
    ///
    /// With the panic of a signal handler, if that called Rust code that panicked. So do all methods that Ctrl-C can end; what they wait
    /// for is left as after an exception.
    #[inline]
    #[track_caller]
    pub fn lock_interruptible<'a>(&'a self, py: Python<'a>) -> PyResult<PyMutexGuard<'a, T>> {
        Ok(self.lock_patiently(py, || Patience::Interruptible, Location::caller())?)
    }

    /// Locks the mutex and says whether a thread has panicked while it held it, as [`std::sync::Mutex::lock`] does.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyMutex;
    /// fn push(py: Python<'_>, log: &PyMutex<Vec<String>>, line: String) {
    ///     let mut log = log.lock_poisonable(py).unwrap_or_else(|poisoned| {
    ///         let mut log = poisoned.into_inner();
    ///         log.clear(); // Half-changed, perhaps: begin anew.
    ///         log
    ///     });
    ///     log.push(line);
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| push(py, &PyMutex::default(), String::new()));
    /// ```
    ///
    /// # Errors
    ///
    /// The guard, wrapped, if the mutex is poisoned.
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    #[inline]
    #[track_caller]
    pub fn lock_poisonable<'a>(&'a self, py: Python<'a>) -> LockResult<PyMutexGuard<'a, T>> {
        let guard = self.lock(py);
        if self.is_poisoned() {
            Err(PoisonError::new(guard))
        } else {
            Ok(guard)
        }
    }

    /// Locks the mutex if that needs no waiting.
    ///
    /// Gives `None` if a thread holds the mutex (this one included), or if it is reserved for one that waits.
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

    /// Locks the mutex, waiting no longer than `limit`.
    ///
    /// A thread that holds the mutex already waits in vain for all that time, and gets `None`. A limit too long to
    /// be added to the current time is no limit.
    ///
    /// ```
    /// # use pyo3::{exceptions::PyTimeoutError, prelude::*};
    /// # use pyo3_sync::{PyMutex, PyMutexGuard};
    /// # use std::time::Duration;
    /// fn rows<'a>(py: Python<'a>, table: &'a PyMutex<Vec<u64>>) -> PyResult<PyMutexGuard<'a, Vec<u64>>> {
    ///     let guard = table.try_lock_for(py, Duration::from_millis(100));
    ///     guard.ok_or_else(|| PyTimeoutError::new_err("the table is busy"))
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock), if the limit is none.
    #[inline]
    #[track_caller]
    pub fn try_lock_for<'a>(
        &'a self,
        py: Python<'a>,
        limit: Duration,
    ) -> Option<PyMutexGuard<'a, T>> {
        let locked = self.lock_patiently(py, || Patience::for_duration(limit), Location::caller());
        in_time(locked)
    }

    /// Locks the mutex, waiting no longer than until `limit`.
    ///
    /// A thread that holds the mutex already waits in vain for all that time, and gets `None`.
    #[inline]
    #[track_caller]
    pub fn try_lock_until<'a>(
        &'a self,
        py: Python<'a>,
        limit: Instant,
    ) -> Option<PyMutexGuard<'a, T>> {
        in_time(self.lock_patiently(py, || Patience::Until(limit), Location::caller()))
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

    /// Attaches to the interpreter, locks the mutex, waiting for it if it has to, and runs `f`: for code that has no token,
    /// such as `Clone` or `Serialize`.
    ///
    /// Attaching costs far more than locking: not for each item in a hot loop. And never on a thread that an
    /// attached thread waits for (by joining it, say): with a GIL neither would go on. Nor on a thread of Rust's that may
    /// outlive the interpreter: CPython, up to 3.15 at least, can crash when a thread attaches for the first time while the
    /// interpreter is being deleted, and nobody can tell it beforehand. End such threads in an `atexit` function.
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
    /// [`TryAttachedError::NotAttached`] if the thread cannot attach: there is no interpreter, it is shutting down, or
    /// the garbage collector is calling. [`TryAttachedError::Deadlock`] where [`lock`](Self::lock) panics. `f` has
    /// not run in either case.
    ///
    /// Destructors must reckon with the second. An object can be dropped while its thread holds the very mutex, by a
    /// callback or by a collection in the middle of anything, and a change that is left out then is lost: put it aside, for
    /// the holder to make, or keep what destructors change in atomics.
    #[track_caller]
    pub fn try_with_attached<R>(
        &self,
        f: impl for<'py> FnOnce(Python<'py>, &mut T) -> R,
    ) -> Result<R, TryAttachedError> {
        let asked_at = Location::caller();
        Python::try_attach(|py| {
            let locked = self.lock_patiently(py, || Patience::Forever, asked_at);
            let mut guard = locked.map_err(Refusal::into_deadlock)?;
            Ok(f(py, &mut guard))
        })
        .unwrap_or(Err(TryAttachedError::NotAttached))
    }

    /// Locks a mutex in an [`Arc`], with a guard that owns a reference to it and not a borrow.
    ///
    /// The guard still lives no longer than the token. Kept for longer, in a thread-local or a `'static` object, it
    /// could be dropped by a thread that is not attached.
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
        match Self::lock_arc_patiently(this, py, || Patience::Forever, Location::caller()) {
            Ok(guard) => guard,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    #[inline]
    fn lock_arc_patiently<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<ArcPyMutexGuard<'py, T>, Refusal> {
        this.raw.lock(py, patience, asked_at)?;
        // SAFETY: this thread has just locked the mutex.
        Ok(unsafe { ArcGuard::new(Arc::clone(this), py, PoisonOnPanic::new()) })
    }

    /// [`lock_arc`](Self::lock_arc), with an error where that panics.
    ///
    /// # Errors
    ///
    /// As [`lock_checked`](Self::lock_checked).
    #[inline]
    #[track_caller]
    pub fn lock_arc_checked<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> Result<ArcPyMutexGuard<'py, T>, DeadlockError> {
        Self::lock_arc_patiently(this, py, || Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// [`lock_arc`](Self::lock_arc), and lets Ctrl-C end the wait.
    ///
    /// # Errors
    ///
    /// As [`lock_interruptible`](Self::lock_interruptible).
    #[inline]
    #[track_caller]
    pub fn lock_arc_interruptible<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
    ) -> PyResult<ArcPyMutexGuard<'py, T>> {
        let patience = || Patience::Interruptible;
        Ok(Self::lock_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        )?)
    }

    /// [`lock_arc`](Self::lock_arc) if that needs no waiting, as [`try_lock`](Self::try_lock).
    #[inline]
    #[track_caller]
    pub fn try_lock_arc<'py>(this: &Arc<Self>, py: Python<'py>) -> Option<ArcPyMutexGuard<'py, T>> {
        let locked = this.raw.try_lock(py, Location::caller());
        // SAFETY: this thread has just locked the mutex.
        locked.then(|| unsafe { ArcGuard::new(Arc::clone(this), py, PoisonOnPanic::new()) })
    }

    /// [`lock_arc`](Self::lock_arc), waiting no longer than `limit`, as [`try_lock_for`](Self::try_lock_for).
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock), if the limit is none.
    #[inline]
    #[track_caller]
    pub fn try_lock_arc_for<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        limit: Duration,
    ) -> Option<ArcPyMutexGuard<'py, T>> {
        let patience = || Patience::for_duration(limit);
        in_time(Self::lock_arc_patiently(
            this,
            py,
            patience,
            Location::caller(),
        ))
    }

    /// [`lock_arc`](Self::lock_arc), waiting no longer than until `limit`, as [`try_lock_until`](Self::try_lock_until).
    #[inline]
    #[track_caller]
    pub fn try_lock_arc_until<'py>(
        this: &Arc<Self>,
        py: Python<'py>,
        limit: Instant,
    ) -> Option<ArcPyMutexGuard<'py, T>> {
        let patience = || Patience::Until(limit);
        in_time(Self::lock_arc_patiently(
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

    /// Whether a thread holds the mutex at this moment. By the time the caller looks at the answer it may be wrong:
    /// for statistics and assertions, not for deciding whether to lock.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Whether a thread has panicked while it held the mutex, and nobody has cleared that since.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Forgets that a thread has panicked while it held the mutex.
    pub fn clear_poison(&self, py: Python<'_>) {
        self.raw.clear_poison(py);
    }

    /// Takes the mutex over from a thread that does not exist, with its data as that thread left them.
    ///
    /// For the child of a `fork`, as [`reset_abandoned`](PyMutex::reset_abandoned), which asks for less. The mutex is
    /// poisoned. `None` if it is free or its owner exists.
    ///
    /// # Safety
    ///
    /// - The data are a valid `T`. The owner may have been anywhere when it was left behind, between any two instructions:
    ///   in the middle of moving the elements of a vector, say.
    /// - The calling thread has no reference to the data, from a loan of the owner's.
    #[track_caller]
    pub unsafe fn recover_abandoned<'a>(&'a self, py: Python<'a>) -> Option<PyMutexGuard<'a, T>> {
        let taken = self.raw.take_abandoned(py, Location::caller());
        // SAFETY: this thread has just taken the mutex over, from a thread that does not exist.
        taken.then(|| unsafe { Guard::new(self, py, PoisonOnPanic::new()) })
    }

    /// Returns the data to the garbage collector, in `__traverse__`.
    ///
    /// Returns `None` while a thread holds the mutex. The collector then takes the objects in the
    /// data for reachable, and visits them again in a later collection. The reference ends with the
    /// visit.
    ///
    /// # One owner
    ///
    /// Exactly one Python object may own the contents of a lock or cell, and visits each reference
    /// in them once. The collector subtracts a reference for each visit, and clears an object
    /// whose references are all subtracted and which no reachable object visits. If two objects
    /// share the contents, for example as an `Arc<PyMutex<Vec<Py<PyAny>>>>`, and both visit
    /// them, it subtracts twice. If only one of the two visits them, it does not see that the
    /// other uses them. Either way it clears objects that are in use: a `list` becomes empty.
    /// Instead, one object owns the contents. Each other object holds a `Py` to the owner, and
    /// visits that.
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
        // SAFETY: a `PyVisit` exists only for the length of a traversal, and the result does not outlive it. During
        // one, no thread takes a lock of ours: with a GIL this thread has it and runs nothing but the traversal;
        // without, the world is stopped, so all other threads are detached or at a safe point of the interpreter,
        // and only attached threads that run acquire (invariant I3). So the mutex, found free, stays free, and no
        // `&mut T` exists until the traversal is over. What the last owner wrote is seen: `is_locked` acquires.
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

/// Why [`PyMutex::try_with_attached`] did nothing.
///
/// ```
/// use pyo3_sync::{PyMutex, TryAttachedError};
///
/// static HITS: PyMutex<u64> = PyMutex::new(0);
///
/// fn hits() -> Option<u64> {
///     match HITS.try_with_attached(|_py, hits| *hits) {
///         Ok(hits) => Some(hits),
///         Err(TryAttachedError::NotAttached) => None,
///         Err(error) => panic!("{error}"),
///     }
/// }
/// # pyo3::Python::initialize();
/// # assert_eq!(hits(), Some(0));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum TryAttachedError {
    /// The thread could not attach to the interpreter.
    NotAttached,
    /// Waiting for the lock could never have ended.
    Deadlock(DeadlockError),
}

impl fmt::Display for TryAttachedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryAttachedError::NotAttached => {
                f.write_str("this thread cannot attach to the Python interpreter now")
            }
            TryAttachedError::Deadlock(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryAttachedError {}

/// A `RuntimeError`.
impl From<TryAttachedError> for PyErr {
    fn from(error: TryAttachedError) -> Self {
        match error {
            TryAttachedError::NotAttached => PyRuntimeError::new_err(error.to_string()),
            TryAttachedError::Deadlock(error) => error.into(),
        }
    }
}

impl From<DeadlockError> for TryAttachedError {
    fn from(error: DeadlockError) -> Self {
        TryAttachedError::Deadlock(error)
    }
}

impl<T: Default> Default for PyMutex<T> {
    fn default() -> Self {
        PyMutex::new(T::default())
    }
}

impl<T> From<T> for PyMutex<T> {
    fn from(value: T) -> Self {
        PyMutex::new(value)
    }
}

/// Shows whether the mutex is locked and poisoned, not the data: that would need the lock.
impl<T: ?Sized> fmt::Debug for PyMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyMutex")
            .field("locked", &self.is_locked())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}
