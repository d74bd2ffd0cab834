//! [`PyOnce`]: a closure that runs once and may call into Python.

use std::{
    fmt,
    panic::Location,
    sync::atomic::{AtomicBool, Ordering},
};

use pyo3::prelude::*;

use crate::{
    error::{DeadlockError, WaitError, panic_with},
    once_lock::PyOnceLock,
    wait::{Failure, LockKind, Role, Wait},
};

const KIND: &LockKind = &LockKind {
    name: "PyOnce",
    role: Role::Initializer("closure"),
};

/// A synchronization primitive that runs a closure once.
///
/// Threads that call a `PyOnce` while its closure runs block, detached. Threads that block on a
/// [`std::sync::Once`] stay attached, and deadlock if the closure waits to attach.
///
/// # Examples
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyOnce;
///
/// static REGISTERED: PyOnce = PyOnce::new();
///
/// #[pyfunction]
/// fn use_it(py: Python<'_>) {
///     REGISTERED.call_once(py, || {
///         // Registers something with Python, for example.
///     });
/// }
/// # Python::initialize();
/// # Python::attach(use_it);
/// ```
///
/// # Poisoning
///
/// A closure that panics poisons the `PyOnce`, as in `std`. [`call_once`](Self::call_once) on a
/// poisoned `PyOnce` panics; [`call_once_force`](Self::call_once_force) runs its closure.
///
/// # Differences from `std`
///
/// | [`std::sync::Once`], `parking_lot::Once` | `PyOnce` |
/// |---|---|
/// | `wait`, `wait_force` | call with a closure, or use a [`PyOnceLock<()>`](PyOnceLock::wait) |
/// | `state` | [`is_completed`](Self::is_completed) |
/// | infallible closure | [`PyOnceLock::get_or_try_init`] for fallible closures |
pub struct PyOnce {
    done: PyOnceLock<()>,
    /// Written only by the thread that runs the closure.
    poisoned: AtomicBool,
}

/// The state passed to the closure of [`PyOnce::call_once_force`].
#[derive(Debug)]
pub struct PyOnceState {
    is_poisoned: bool,
}

impl PyOnceState {
    /// Returns `true` if a previous closure panicked.
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }
}

/// Poisons the `PyOnce` when dropped.
struct PoisonGuard<'a>(&'a AtomicBool);

impl Drop for PoisonGuard<'_> {
    fn drop(&mut self) {
        // Relaxed: the cell orders closures, and only closures read the flag.
        self.0.store(true, Ordering::Relaxed);
    }
}

impl PyOnce {
    /// Creates a `PyOnce` whose closure has not run.
    #[track_caller]
    pub const fn new() -> Self {
        PyOnce {
            done: PyOnceLock::new(),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Runs `f` unless a closure has completed, blocking while another thread runs its closure.
    ///
    /// When this method returns, a closure has completed, and its writes are visible to the caller.
    ///
    /// # Panics
    ///
    /// Panics if the `PyOnce` is poisoned. Panics, and poisons it, if `f` panics.
    ///
    /// # Deadlocks
    ///
    /// Panics instead of deadlocking, as [`PyOnceLock::get_or_init`] does, for example if `f` calls
    /// this method on the same `PyOnce`.
    #[inline]
    #[track_caller]
    pub fn call_once(&self, py: Python<'_>, f: impl FnOnce()) {
        match self.call_once_at(py, &Wait::FOREVER, Location::caller(), f) {
            Ok(()) => {}
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Runs `f` as [`call_once`](Self::call_once) does, reporting deadlocks as errors.
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`], without calling `f`, if the wait would never end.
    ///
    /// # Panics
    ///
    /// Panics if the `PyOnce` is poisoned. Panics, and poisons it, if `f` panics.
    #[inline]
    #[track_caller]
    pub fn call_once_checked(&self, py: Python<'_>, f: impl FnOnce()) -> Result<(), DeadlockError> {
        self.call_once_at(py, &Wait::FOREVER, Location::caller(), f)
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Runs `f` as [`call_once`](Self::call_once) does, waiting as `wait` says: with a timeout,
    /// interruptible by signals, or both.
    ///
    /// # Errors
    ///
    /// `f` has not run in these cases:
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] where `call_once` panics, unless there is a timeout.
    ///
    /// # Panics
    ///
    /// Panics if the `PyOnce` is poisoned. Panics, and poisons it, if `f` panics.
    #[inline]
    #[track_caller]
    pub fn call_once_with(
        &self,
        py: Python<'_>,
        wait: impl Into<Wait>,
        f: impl FnOnce(),
    ) -> Result<(), WaitError> {
        self.call_once_at(py, &wait.into(), Location::caller(), f)
            .map_err(|failure| WaitError::new(py, failure))
    }

    #[inline]
    fn call_once_at(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
        f: impl FnOnce(),
    ) -> Result<(), Failure> {
        let run = || {
            // Relaxed: the cell orders the closures.
            if self.poisoned.load(Ordering::Relaxed) {
                panic_with(
                    &"a closure of this PyOnce has panicked: it is poisoned",
                    "use `call_once_force` in destructors",
                );
            }
            self.run_or_poison(f);
        };
        self.done.fill_with(py, KIND, wait, caller, run).copied()
    }

    /// Calls [`call_once`](Self::call_once).
    ///
    /// This is the name of the method in `pyo3::sync::OnceExt`.
    #[inline]
    #[track_caller]
    pub fn call_once_py_attached(&self, py: Python<'_>, f: impl FnOnce()) {
        self.call_once(py, f);
    }

    /// Runs `f` as [`call_once`](Self::call_once) does, but ignores poisoning.
    ///
    /// `f` receives a [`PyOnceState`]. If `f` returns, the `PyOnce` is no longer poisoned.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyOnce;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let once = PyOnce::new();
    /// let attempt = std::panic::AssertUnwindSafe(|| once.call_once(py, || panic!("not yet")));
    /// assert!(std::panic::catch_unwind(attempt).is_err());
    /// once.call_once_force(py, |state| assert!(state.is_poisoned()));
    /// once.call_once(py, || unreachable!());
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// Panics, and poisons the `PyOnce`, if `f` panics.
    ///
    /// # Deadlocks
    ///
    /// See [`call_once`](Self::call_once).
    #[inline]
    #[track_caller]
    pub fn call_once_force(&self, py: Python<'_>, f: impl FnOnce(&PyOnceState)) {
        match self.call_once_force_at(py, &Wait::FOREVER, Location::caller(), f) {
            Ok(()) => {}
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Runs `f` as [`call_once_force`](Self::call_once_force) does, waiting as `wait` says.
    ///
    /// # Errors
    ///
    /// As [`call_once_with`](Self::call_once_with).
    ///
    /// # Panics
    ///
    /// Panics, and poisons the `PyOnce`, if `f` panics.
    #[inline]
    #[track_caller]
    pub fn call_once_force_with(
        &self,
        py: Python<'_>,
        wait: impl Into<Wait>,
        f: impl FnOnce(&PyOnceState),
    ) -> Result<(), WaitError> {
        self.call_once_force_at(py, &wait.into(), Location::caller(), f)
            .map_err(|failure| WaitError::new(py, failure))
    }

    #[inline]
    fn call_once_force_at(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
        f: impl FnOnce(&PyOnceState),
    ) -> Result<(), Failure> {
        let run = || {
            let state = PyOnceState {
                // Relaxed: the cell orders the closures.
                is_poisoned: self.poisoned.load(Ordering::Relaxed),
            };
            self.run_or_poison(|| f(&state));
            self.poisoned.store(false, Ordering::Relaxed);
        };
        self.done.fill_with(py, KIND, wait, caller, run).copied()
    }

    /// Calls [`call_once_force`](Self::call_once_force).
    ///
    /// This is the name of the method in `pyo3::sync::OnceExt`.
    #[inline]
    #[track_caller]
    pub fn call_once_force_py_attached(&self, py: Python<'_>, f: impl FnOnce(&PyOnceState)) {
        self.call_once_force(py, f);
    }

    /// Runs `f`, poisoning the `PyOnce` if `f` panics.
    fn run_or_poison(&self, f: impl FnOnce()) {
        let guard = PoisonGuard(&self.poisoned);
        f();
        std::mem::forget(guard);
    }

    /// Returns `true` if a closure has completed.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.done.is_initialized()
    }
}

impl Default for PyOnce {
    #[track_caller]
    fn default() -> Self {
        PyOnce::new()
    }
}

impl fmt::Debug for PyOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyOnce")
            .field("completed", &self.is_completed())
            .finish_non_exhaustive()
    }
}
