//! [`OnceExt`] and [`OnceLockExt`], for [`std::sync::Once`] and [`std::sync::OnceLock`].
//!
//! PyO3's own traits do all that can be done, and know how to attach early; these give them names like the others here.

use std::sync::{Once, OnceLock, OnceState};

use pyo3::Python;

use super::sealed::Sealed;

/// Does something once without keeping the interpreter from others, for attached threads.
///
/// Unless it has been done the thread detaches, whether or not it has to wait: only the `Once` knows. `f` runs attached, while the
/// thread owns the `Once`. So all attached threads must come this way, and none of what `f` calls may come back.
/// [`PyOnce`](crate::PyOnce) detaches only to wait, and reports who comes back.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::OnceExt;
/// use std::sync::Once;
///
/// /// Rust threads ask whether it [is completed](Once::is_completed).
/// static REGISTERED: Once = Once::new();
///
/// #[pyfunction]
/// fn register(py: Python<'_>) {
///     REGISTERED.call_once_attached(py, || {
///         // Registers something with Python, say.
///     });
/// }
/// # Python::initialize();
/// # Python::attach(register);
/// # assert!(REGISTERED.is_completed());
/// ```
pub trait OnceExt: Sealed {
    /// [`Once::call_once`], detached while it waits; `f` runs attached.
    ///
    /// # Panics
    ///
    /// As [`Once::call_once`]: if `f` does, and for ever after.
    fn call_once_attached(&self, py: Python<'_>, f: impl FnOnce());

    /// [`Once::call_once_force`], detached while it waits; `f` runs attached.
    ///
    /// # Panics
    ///
    /// If `f` does.
    fn call_once_force_attached(&self, py: Python<'_>, f: impl FnOnce(&OnceState));

    /// [`call_once_attached`](Self::call_once_attached) under the name that `pyo3::sync::OnceExt` gives it.
    #[inline]
    fn call_once_py_attached(&self, py: Python<'_>, f: impl FnOnce()) {
        self.call_once_attached(py, f);
    }

    /// [`call_once_force_attached`](Self::call_once_force_attached) under the name that `pyo3::sync::OnceExt` gives it.
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

/// Fills a cell without keeping the interpreter from others, for attached threads.
///
/// What is said of [`OnceExt`] holds here as well. [`PyOnceLock`](crate::PyOnceLock) is the cell that knows of Python.
pub trait OnceLockExt<T>: Sealed {
    /// [`OnceLock::get_or_init`], detached while it waits; `f` runs attached.
    ///
    /// ```
    /// use pyo3::prelude::*;
    /// use pyo3_sync::ext::OnceLockExt;
    /// use std::sync::OnceLock;
    ///
    /// /// Read by Rust threads, with `VERSION.get()`.
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
    /// If `f` does. The cell is empty then.
    fn get_or_init_attached(&self, py: Python<'_>, f: impl FnOnce() -> T) -> &T;

    /// [`get_or_init_attached`](Self::get_or_init_attached) under the name that `pyo3::sync::OnceLockExt` gives it.
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
