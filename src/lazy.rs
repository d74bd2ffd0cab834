//! [`PyLazy`] and [`PyTryLazy`]: values that know how to make themselves.

use std::{fmt, panic::Location};

use pyo3::{prelude::*, pyclass::PyVisit};

use crate::{
    DeadlockError, PyOnceLock,
    deadlock::LockKind,
    wait::{Patience, Refusal},
};

/// A value that is made when it is first asked for, by a function that it brings along.
///
/// A [`PyOnceLock`] with its initialiser: what [`std::sync::LazyLock`] is to `OnceLock`, with a token.
///
/// ```
/// use pyo3::{prelude::*, types::PyDict};
/// use pyo3_sync::PyLazy;
///
/// static CACHE: PyLazy<Py<PyDict>> = PyLazy::new(|py| PyDict::new(py).unbind());
///
/// #[pyfunction]
/// fn cached<'py>(key: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
///     CACHE.get(key.py()).bind(key.py()).get_item(key)
/// }
/// # Python::initialize();
/// # Python::attach(|py| assert!(cached(py.None().into_bound(py)).unwrap().is_none()));
/// ```
///
/// If the function panics, the next one that asks runs it again, since it may be called more than once; so there is no poison.
///
/// # Not here
///
/// Of [`std::sync::LazyLock`]: `Deref`, for which there would be no token, and with it `force`, which [`get`](Self::get) is; a function
/// that may be called only once, `FnOnce`, for the sake of which `std`'s is poisoned by a panic. A value that may fail to be made is a
/// [`PyTryLazy`]. `Default`, since a function is needed: [`PyLazy::new`] with `|_| T::default()`. Waiting without making it:
/// [`PyOnceLock::wait`].
pub struct PyLazy<T, F = fn(Python<'_>) -> T> {
    cell: PyOnceLock<T>,
    make: F,
}

impl<T, F: Fn(Python<'_>) -> T> PyLazy<T, F> {
    /// A value that `make` will make.
    pub const fn new(make: F) -> Self {
        PyLazy {
            cell: PyOnceLock::new(),
            make,
        }
    }

    /// The value; it is made if it is not there yet.
    ///
    /// # Panics
    ///
    /// If making it does, or if it could never be had, as [`PyOnceLock::get_or_init`]: if making it asks for it, for example.
    #[inline]
    #[track_caller]
    pub fn get(&self, py: Python<'_>) -> &T {
        match self.get_patiently(py, Patience::Forever, Location::caller()) {
            Ok(value) => value,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// [`get`](Self::get), with an error if the value could never be had.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`].
    #[inline]
    #[track_caller]
    pub fn get_checked(&self, py: Python<'_>) -> Result<&T, DeadlockError> {
        self.get_patiently(py, Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// [`get`](Self::get), and lets Ctrl-C end the wait for another thread that is making the value, as
    /// [`PyMutex::lock_interruptible`](crate::PyMutex::lock_interruptible).
    ///
    /// # Errors
    ///
    /// What a signal handler raised, or a [`DeadlockError`] if the value could never be had.
    ///
    /// # Panics
    ///
    /// If making it does.
    #[inline]
    #[track_caller]
    pub fn get_interruptible(&self, py: Python<'_>) -> PyResult<&T> {
        Ok(self.get_patiently(py, Patience::Interruptible, Location::caller())?)
    }

    #[inline]
    fn get_patiently(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<&T, Refusal> {
        let make = || (self.make)(py);
        self.cell
            .fill_with(py, LockKind::Lazy, patience, asked_at, make)
    }
}

/// A value that is made when it is first asked for, by a function that may fail.
///
/// An error is not kept: the next one that asks runs the function again.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyTryLazy;
///
/// static LIMIT: PyTryLazy<u64> = PyTryLazy::new(|py| py.import("sys")?.getattr("maxsize")?.extract());
///
/// #[pyfunction]
/// fn limit(py: Python<'_>) -> PyResult<u64> {
///     LIMIT.get(py).copied()
/// }
/// # Python::initialize();
/// # Python::attach(|py| assert!(limit(py).unwrap() > 1 << 30));
/// ```
///
/// # Not here
///
/// What is said at [`PyLazy`](PyLazy#not-here). Checked and interruptible forms, since [`get`](Self::get) is both. Errors of another type
/// than [`PyErr`]: [`PyOnceLock::get_or_try_init`].
pub struct PyTryLazy<T, F = fn(Python<'_>) -> PyResult<T>> {
    cell: PyOnceLock<T>,
    make: F,
}

impl<T, F: Fn(Python<'_>) -> PyResult<T>> PyTryLazy<T, F> {
    /// A value that `make` will make.
    pub const fn new(make: F) -> Self {
        PyTryLazy {
            cell: PyOnceLock::new(),
            make,
        }
    }

    /// The value; it is made if it is not there yet. Ctrl-C ends the wait for another thread that is making it.
    ///
    /// # Errors
    ///
    /// What making it gave, a [`DeadlockError`] if it could never be had, or what a signal handler raised.
    #[inline]
    #[track_caller]
    pub fn get(&self, py: Python<'_>) -> PyResult<&T> {
        let (kind, asked_at) = (LockKind::Lazy, Location::caller());
        let make = || (self.make)(py);
        Ok(self
            .cell
            .fill(py, kind, Patience::Interruptible, asked_at, make)?)
    }
}

macro_rules! impl_common {
    ($($lazy:ident)*) => { $(
        impl<T, F> $lazy<T, F> {
            /// The value, if it is there, for code that has no token, or does not want it to be made.
            #[inline]
            pub fn peek(&self) -> Option<&T> {
                self.cell.peek()
            }

            /// The value, if it is there.
            pub fn get_mut(&mut self) -> Option<&mut T> {
                self.cell.get_mut()
            }

            /// The value, if it is there.
            pub fn into_inner(self) -> Option<T> {
                self.cell.into_inner()
            }

            /// Returns the value to the garbage collector, in `__traverse__`.
            ///
            /// Returns `None` while the cell is empty. The reference ends with the visit.
            /// [Exactly one Python object](crate::PyMutex#one-owner) may own the value and
            /// visit it.
            pub fn traverse<'v>(&'v self, visit: &'v PyVisit<'_>) -> Option<&'v T> {
                self.cell.traverse(visit)
            }
        }

        /// Shows the value, if it is there, and makes none.
        impl<T: fmt::Debug, F> fmt::Debug for $lazy<T, F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut tuple = f.debug_tuple(stringify!($lazy));
                match self.peek() {
                    Some(value) => tuple.field(value),
                    None => tuple.field(&format_args!("<empty>")),
                };
                tuple.finish()
            }
        }
    )* };
}
impl_common!(PyLazy PyTryLazy);
