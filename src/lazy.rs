//! [`PyLazy`] and [`PyTryLazy`]: values initialized on first access.

use std::{fmt, panic::Location};

use pyo3::{prelude::*, pyclass::PyVisit};

use crate::{
    error::{DeadlockError, WaitError},
    once_lock::PyOnceLock,
    wait::{Failure, LockKind, Role, Wait},
};

const KIND: &LockKind = &LockKind {
    name: "PyLazy",
    role: Role::Initializer("initializer"),
};

const TRY_KIND: &LockKind = &LockKind {
    name: "PyTryLazy",
    ..*KIND
};

/// A value that is initialized on first access.
///
/// A `PyLazy` is a [`PyOnceLock`] with its initializer, as a [`std::sync::LazyLock`] is a
/// [`std::sync::OnceLock`] with its initializer. Threads that access the value while another thread
/// initializes it block, detached.
///
/// If the initializer panics, the value stays uninitialized, and the next access runs the
/// initializer again. A `PyLazy` is never poisoned.
///
/// # Examples
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
/// # Differences from `std`
///
/// | [`std::sync::LazyLock`] | `PyLazy` |
/// |---|---|
/// | `Deref` and `force` | [`get`](Self::get), which takes a token |
/// | `FnOnce` initializer; a panic poisons the value | `Fn` initializer; a panic does not poison |
/// | infallible initializer | [`PyTryLazy`] for fallible initializers |
/// | `Default` | [`PyLazy::new`] with a closure that calls `T::default` |
///
/// To wait for another thread to initialize a value, use [`PyOnceLock::wait`].
pub struct PyLazy<T, F = fn(Python<'_>) -> T> {
    cell: PyOnceLock<T>,
    init: F,
}

impl<T, F: Fn(Python<'_>) -> T> PyLazy<T, F> {
    /// Creates an uninitialized value with the initializer `init`.
    #[track_caller]
    pub const fn new(init: F) -> Self {
        PyLazy {
            cell: PyOnceLock::new(),
            init,
        }
    }

    /// Returns the value, initializing it first if necessary.
    ///
    /// # Panics
    ///
    /// Panics if the initializer panics.
    ///
    /// # Deadlocks
    ///
    /// Panics instead of deadlocking, as [`PyOnceLock::get_or_init`] does, for example if the
    /// initializer is re-entrant.
    #[inline]
    #[track_caller]
    pub fn get(&self, py: Python<'_>) -> &T {
        match self.get_at(py, &Wait::FOREVER, Location::caller()) {
            Ok(value) => value,
            Err(failure) => DeadlockError::new(py, failure).panic(),
        }
    }

    /// Returns the value as [`get`](Self::get) does, reporting deadlocks as errors.
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`] where [`get`](Self::get) panics because of a deadlock.
    ///
    /// # Panics
    ///
    /// Panics if the initializer panics.
    #[inline]
    #[track_caller]
    pub fn get_checked(&self, py: Python<'_>) -> Result<&T, DeadlockError> {
        self.get_at(py, &Wait::FOREVER, Location::caller())
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Returns the value as [`get`](Self::get) does, waiting as `wait` says: with a timeout,
    /// interruptible by signals, or both.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] where `get` panics because of a deadlock, unless there is a
    ///   timeout.
    ///
    /// # Panics
    ///
    /// Panics if the initializer panics.
    #[inline]
    #[track_caller]
    pub fn get_with(&self, py: Python<'_>, wait: impl Into<Wait>) -> Result<&T, WaitError> {
        self.get_at(py, &wait.into(), Location::caller())
            .map_err(|failure| WaitError::new(py, failure))
    }

    #[inline]
    fn get_at(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<&T, Failure> {
        let init = || (self.init)(py);
        self.cell.fill_with(py, KIND, wait, caller, init)
    }
}

/// A value that is initialized on first access, by a fallible initializer.
///
/// If the initializer fails or panics, the value stays uninitialized, and the next access runs the
/// initializer again.
///
/// # Examples
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyTryLazy;
///
/// static LIMIT: PyTryLazy<u64> =
///     PyTryLazy::new(|py| py.import("sys")?.getattr("maxsize")?.extract());
///
/// #[pyfunction]
/// fn limit(py: Python<'_>) -> PyResult<u64> {
///     LIMIT.get(py).copied()
/// }
/// # Python::initialize();
/// # Python::attach(|py| assert!(limit(py).unwrap() > 1 << 30));
/// ```
///
/// # Differences from `PyLazy`
///
/// | [`PyLazy`] | `PyTryLazy` |
/// |---|---|
/// | the initializer returns `T` | the initializer returns [`PyResult<T>`](PyResult) |
/// | `get_checked` | [`get`](Self::get) returns the error as an exception |
///
/// The [differences of `PyLazy` from `std`](PyLazy#differences-from-std) apply too. For errors of
/// another type than [`PyErr`], use [`PyOnceLock::get_or_try_init`].
pub struct PyTryLazy<T, F = fn(Python<'_>) -> PyResult<T>> {
    cell: PyOnceLock<T>,
    init: F,
}

impl<T, F: Fn(Python<'_>) -> PyResult<T>> PyTryLazy<T, F> {
    /// Creates an uninitialized value with the initializer `init`.
    #[track_caller]
    pub const fn new(init: F) -> Self {
        PyTryLazy {
            cell: PyOnceLock::new(),
            init,
        }
    }

    /// Returns the value, initializing it first if necessary.
    ///
    /// The main thread runs Python signal handlers while it waits for another initializer.
    ///
    /// # Errors
    ///
    /// Returns the error of the initializer, a [`DeadlockError`], or the exception that a signal
    /// handler raised.
    ///
    /// # Panics
    ///
    /// Panics if the initializer panics.
    #[inline]
    #[track_caller]
    pub fn get(&self, py: Python<'_>) -> PyResult<&T> {
        self.get_with(py, Wait::new().interruptible())
    }

    /// Returns the value as [`get`](Self::get) does, waiting as `wait` says: with a timeout,
    /// interruptible by signals, or both.
    ///
    /// # Errors
    ///
    /// Returns the error of the initializer, or that of the wait as an exception.
    ///
    /// # Panics
    ///
    /// Panics if the initializer panics.
    #[inline]
    #[track_caller]
    pub fn get_with(&self, py: Python<'_>, wait: impl Into<Wait>) -> PyResult<&T> {
        let init = || (self.init)(py);
        self.cell
            .fill(py, TRY_KIND, &wait.into(), Location::caller(), init)
            .map_err(|error| error.into_py_err(py))
    }
}

macro_rules! impl_common {
    ($($lazy:ident)*) => { $(
        impl<T, F> $lazy<T, F> {
            /// Returns the value if it is initialized. Needs no token and never blocks.
            #[inline]
            pub fn peek(&self) -> Option<&T> {
                self.cell.peek()
            }

            /// Returns a mutable reference to the value if it is initialized.
            pub fn get_mut(&mut self) -> Option<&mut T> {
                self.cell.get_mut()
            }

            /// Consumes `self`, returning the value if it is initialized.
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

        /// Formats the value if it is initialized. Never runs the initializer.
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
