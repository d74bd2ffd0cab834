//! [`MutexExt`] for [`std::sync::Mutex`].

use std::sync::{self, MutexGuard};

use pyo3::Python;

use super::{sealed::Sealed, take_attached, unless_taken};

/// Locks a mutex without keeping the interpreter from others, for attached threads.
///
/// For [`std::sync::Mutex`], and with the feature `lock_api` for `lock_api::Mutex` and `lock_api::ReentrantMutex`, which those of
/// `parking_lot` are.
pub trait MutexExt: Sealed {
    /// What `lock` gives.
    type LockResult<'a>
    where
        Self: 'a;

    /// `lock`, detached while it waits. The mutex is taken after having attached again.
    ///
    /// ```
    /// use pyo3::prelude::*;
    /// use pyo3_sync::ext::MutexExt;
    /// use std::sync::Mutex;
    ///
    /// static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    ///
    /// #[pyfunction]
    /// fn lines(py: Python<'_>) -> Vec<String> {
    ///     // A statement of its own, so that the mutex is free again before anything is made of the lines in Python.
    ///     let lines = LINES.lock_attached(py).unwrap().clone();
    ///     lines
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert!(lines(py).is_empty()));
    /// ```
    ///
    /// # Errors
    ///
    /// As `lock`: with `std`'s, if the mutex is poisoned.
    ///
    /// # Deadlocks
    ///
    /// As `lock`, none of which is reported: [`ext`](super#what-is-not-detected).
    fn lock_attached(&self, py: Python<'_>) -> Self::LockResult<'_>;

    /// [`lock_attached`](Self::lock_attached) under the name that `pyo3::sync::MutexExt` gives it.
    ///
    /// # Errors
    ///
    /// As `lock`.
    #[inline]
    fn lock_py_attached(&self, py: Python<'_>) -> Self::LockResult<'_> {
        self.lock_attached(py)
    }
}

impl<T: ?Sized> Sealed for sync::Mutex<T> {}

impl<T: ?Sized> MutexExt for sync::Mutex<T> {
    type LockResult<'a>
        = sync::LockResult<MutexGuard<'a, T>>
    where
        Self: 'a;

    #[inline]
    fn lock_attached(&self, py: Python<'_>) -> Self::LockResult<'_> {
        take_attached(py, || unless_taken(self.try_lock()), || drop(self.lock()))
    }
}
