//! [`PyOnce`]: something that is done once, whatever it needs of Python.

use std::{
    fmt,
    panic::Location,
    sync::atomic::{AtomicBool, Ordering},
};

use pyo3::prelude::*;

use crate::{
    DeadlockError, PyOnceLock,
    deadlock::{LockKind, panic_with},
    wait::{Patience, Refusal},
};

/// Runs a closure once, for all threads, which wait for it detached.
///
/// As [`std::sync::Once`], whose waiting threads keep the interpreter to themselves, and hang if the closure needs it.
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
///         // Registers something with Python, say.
///     });
/// }
/// # Python::initialize();
/// # Python::attach(use_it);
/// ```
///
/// # Poison
///
/// If the closure panics, the `PyOnce` is poisoned, as in `std`: [`call_once`](Self::call_once) panics from then on, and
/// [`call_once_force`](Self::call_once_force) tries again.
///
/// # Not here
///
/// Of [`std::sync::Once`]: `wait` and `wait_force`: a thread that wants to wait can bring the closure as well. A
/// [`PyOnceLock<()>`](crate::PyOnceLock::wait) has the former. Of `parking_lot`'s: `state`, which is out of date when it is read, but for
/// [`is_completed`](Self::is_completed). A closure that may fail: [`PyOnceLock::get_or_try_init`].
pub struct PyOnce {
    done: PyOnceLock<()>,
    /// Written while the closure runs, and so by one thread at a time.
    poisoned: AtomicBool,
}

/// What [`PyOnce::call_once_force`] tells its closure.
#[derive(Debug)]
pub struct PyOnceState {
    is_poisoned: bool,
}

impl PyOnceState {
    /// Whether a closure has panicked before.
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }
}

/// Remembers a panic.
struct PoisonOnPanic<'a>(&'a AtomicBool);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        // Relaxed: whoever reads it runs its closure after this one, which the cell orders.
        self.0.store(true, Ordering::Relaxed);
    }
}

impl PyOnce {
    /// Nothing has been done yet.
    pub const fn new() -> Self {
        PyOnce {
            done: PyOnceLock::new(),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Runs `f`, unless a closure has been run already; waits if one is running. When this returns one has been run, and
    /// whatever it wrote is seen.
    ///
    /// # Panics
    ///
    /// If a closure has panicked. If `f` does, which poisons. If the wait could never end, [see below](#deadlocks).
    ///
    /// # Deadlocks
    ///
    /// As [`PyOnceLock::get_or_init`]: if `f` comes back here, for example.
    #[inline]
    #[track_caller]
    pub fn call_once(&self, py: Python<'_>, f: impl FnOnce()) {
        match self.call_patiently(py, Patience::Forever, Location::caller(), f) {
            Ok(()) => {}
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// [`call_once`](Self::call_once), with an error for waits that could never end.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`]. `f` has not run then.
    ///
    /// # Panics
    ///
    /// If a closure has panicked, or `f` does.
    #[inline]
    #[track_caller]
    pub fn call_once_checked(&self, py: Python<'_>, f: impl FnOnce()) -> Result<(), DeadlockError> {
        self.call_patiently(py, Patience::Forever, Location::caller(), f)
            .map_err(Refusal::into_deadlock)
    }

    /// [`call_once`](Self::call_once), and lets Ctrl-C end the wait for another thread's closure, as
    /// [`PyMutex::lock_interruptible`](crate::PyMutex::lock_interruptible).
    ///
    /// # Errors
    ///
    /// What a signal handler raised, or a [`DeadlockError`] if the wait could never end. `f` has not run then.
    ///
    /// # Panics
    ///
    /// If a closure has panicked, or `f` does.
    #[inline]
    #[track_caller]
    pub fn call_once_interruptible(&self, py: Python<'_>, f: impl FnOnce()) -> PyResult<()> {
        Ok(self.call_patiently(py, Patience::Interruptible, Location::caller(), f)?)
    }

    #[inline]
    fn call_patiently(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
        f: impl FnOnce(),
    ) -> Result<(), Refusal> {
        let run = || {
            // Relaxed: the cell orders the closures.
            if self.poisoned.load(Ordering::Relaxed) {
                panic_with(
                    &"a closure of this PyOnce has panicked: it is poisoned",
                    "use `call_once_force` in destructors",
                );
            }
            self.poisoned_by(f);
        };
        self.done
            .fill_with(py, LockKind::Once, patience, asked_at, run)
            .copied()
    }

    /// [`call_once`](Self::call_once) under the name that `pyo3::sync::OnceExt` gives it.
    #[inline]
    #[track_caller]
    pub fn call_once_py_attached(&self, py: Python<'_>, f: impl FnOnce()) {
        self.call_once(py, f);
    }

    /// [`call_once`](Self::call_once), which runs `f` also after a closure has panicked, and tells it.
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
    /// If `f` does. If the wait could never end.
    #[inline]
    #[track_caller]
    pub fn call_once_force(&self, py: Python<'_>, f: impl FnOnce(&PyOnceState)) {
        match self.force_patiently(py, Patience::Forever, Location::caller(), f) {
            Ok(()) => {}
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// [`call_once_force`](Self::call_once_force), with an error for waits that could never end.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`]. `f` has not run then.
    ///
    /// # Panics
    ///
    /// If `f` does.
    #[inline]
    #[track_caller]
    pub fn call_once_force_checked(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&PyOnceState),
    ) -> Result<(), DeadlockError> {
        self.force_patiently(py, Patience::Forever, Location::caller(), f)
            .map_err(Refusal::into_deadlock)
    }

    /// [`call_once_force`](Self::call_once_force), and lets Ctrl-C end the wait, as
    /// [`call_once_interruptible`](Self::call_once_interruptible).
    ///
    /// # Errors
    ///
    /// What a signal handler raised, or a [`DeadlockError`] if the wait could never end. `f` has not run then.
    ///
    /// # Panics
    ///
    /// If `f` does.
    #[inline]
    #[track_caller]
    pub fn call_once_force_interruptible(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&PyOnceState),
    ) -> PyResult<()> {
        Ok(self.force_patiently(py, Patience::Interruptible, Location::caller(), f)?)
    }

    #[inline]
    fn force_patiently(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
        f: impl FnOnce(&PyOnceState),
    ) -> Result<(), Refusal> {
        let run = || {
            let state = PyOnceState {
                // Relaxed: as above.
                is_poisoned: self.poisoned.load(Ordering::Relaxed),
            };
            self.poisoned_by(|| f(&state));
            self.poisoned.store(false, Ordering::Relaxed);
        };
        self.done
            .fill_with(py, LockKind::Once, patience, asked_at, run)
            .copied()
    }

    /// [`call_once_force`](Self::call_once_force) under the name that `pyo3::sync::OnceExt` gives it.
    #[inline]
    #[track_caller]
    pub fn call_once_force_py_attached(&self, py: Python<'_>, f: impl FnOnce(&PyOnceState)) {
        self.call_once_force(py, f);
    }

    fn poisoned_by(&self, f: impl FnOnce()) {
        let on_panic = PoisonOnPanic(&self.poisoned);
        f();
        std::mem::forget(on_panic);
    }

    /// Whether a closure has been run to its end.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.done.is_initialized()
    }
}

impl Default for PyOnce {
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
