//! [`OnceExt`] and [`OnceLockExt`], for [`std::sync::Once`] and [`std::sync::OnceLock`].
//!
//! Both forward to PyO3's traits, under names that match the other traits of this module.

use std::sync::{Once, OnceLock, OnceState};

use pyo3::Python;

use super::sealed::Sealed;

/// Runs a [`Once`] closure from an attached thread, detaching while it blocks.
///
/// Unless the `Once` is completed, the thread detaches even if it does not have to wait. `f` runs
/// attached while the thread owns the `Once`. To avoid a deadlock, all attached threads must use
/// these methods, and `f` must not use the same `Once`. [`PyOnce`](crate::PyOnce) detaches only to
/// wait, and reports re-entrant calls.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::OnceExt;
/// use std::sync::Once;
///
/// /// Detached threads call [`Once::is_completed`].
/// static REGISTERED: Once = Once::new();
///
/// #[pyfunction]
/// fn register(py: Python<'_>) {
///     REGISTERED.call_once_attached(py, || {
///         // Registers something with Python, for example.
///     });
/// }
/// # Python::initialize();
/// # Python::attach(register);
/// # assert!(REGISTERED.is_completed());
/// ```
pub trait OnceExt: Sealed {
    /// Calls `f` once as [`Once::call_once`] does, detached while it waits. `f` runs attached.
    ///
    /// # Panics
    ///
    /// Panics if `f` panics, or if the `Once` is poisoned.
    fn call_once_attached(&self, py: Python<'_>, f: impl FnOnce());

    /// Calls `f` once as [`Once::call_once_force`] does, ignoring poisoning. `f` runs attached.
    ///
    /// # Panics
    ///
    /// Panics if `f` panics.
    fn call_once_force_attached(&self, py: Python<'_>, f: impl FnOnce(&OnceState));

    /// Calls [`call_once_attached`](Self::call_once_attached).
    ///
    /// This is the name of the method in `pyo3::sync::OnceExt`.
    #[inline]
    fn call_once_py_attached(&self, py: Python<'_>, f: impl FnOnce()) {
        self.call_once_attached(py, f);
    }

    /// Calls [`call_once_force_attached`](Self::call_once_force_attached).
    ///
    /// This is the name of the method in `pyo3::sync::OnceExt`.
    #[inline]
    fn call_once_force_py_attached(&self, py: Python<'_>, f: impl FnOnce(&OnceState)) {
        self.call_once_force_attached(py, f);
    }
}

impl Sealed for Once {}

impl OnceExt for Once {
    #[inline]
    fn call_once_attached(&self, py: Python<'_>, f: impl FnOnce()) {
        pyo3::sync::OnceExt::call_once_py_attached(self, py, f);
    }

    #[inline]
    fn call_once_force_attached(&self, py: Python<'_>, f: impl FnOnce(&OnceState)) {
        pyo3::sync::OnceExt::call_once_force_py_attached(self, py, f);
    }
}

/// Initializes a [`OnceLock`] from an attached thread, detaching while it blocks.
///
/// The restrictions of [`OnceExt`] apply. [`PyOnceLock`](crate::PyOnceLock) has none of them.
pub trait OnceLockExt<T>: Sealed {
    /// Returns the value, initializing it with `f` as [`OnceLock::get_or_init`] does.
    ///
    /// The thread waits detached. `f` runs attached.
    ///
    /// ```
    /// use pyo3::prelude::*;
    /// use pyo3_sync::ext::OnceLockExt;
    /// use std::sync::OnceLock;
    ///
    /// /// Detached threads call `VERSION.get()`.
    /// static VERSION: OnceLock<String> = OnceLock::new();
    ///
    /// fn version(py: Python<'_>) -> &'static str {
    ///     VERSION.get_or_init_attached(py, || py.version().to_owned())
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert!(version(py).starts_with('3')));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `f` panics. The cell then stays empty.
    fn get_or_init_attached(&self, py: Python<'_>, f: impl FnOnce() -> T) -> &T;

    /// Calls [`get_or_init_attached`](Self::get_or_init_attached).
    ///
    /// This is the name of the method in `pyo3::sync::OnceLockExt`.
    #[inline]
    fn get_or_init_py_attached(&self, py: Python<'_>, f: impl FnOnce() -> T) -> &T {
        self.get_or_init_attached(py, f)
    }
}

impl<T> Sealed for OnceLock<T> {}

impl<T> OnceLockExt<T> for OnceLock<T> {
    #[inline]
    fn get_or_init_attached(&self, py: Python<'_>, f: impl FnOnce() -> T) -> &T {
        pyo3::sync::OnceLockExt::get_or_init_py_attached(self, py, f)
    }
}
