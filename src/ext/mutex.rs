//! [`MutexExt`] for [`std::sync::Mutex`].

use std::sync::{self, MutexGuard};

use pyo3::Python;

use super::{acquire_attached, ignore_would_block, sealed::Sealed};

/// Locks a mutex from an attached thread, detaching while it blocks.
///
/// Implemented for [`std::sync::Mutex`] and, with the feature `lock_api`, for `lock_api::Mutex` and
/// `lock_api::ReentrantMutex`. The mutexes of `parking_lot` are aliases of these two types.
pub trait MutexExt: Sealed {
    /// The return type of `lock`.
    type LockResult<'a>
    where
        Self: 'a;

    /// Locks the mutex as `lock` does, detaching while it blocks.
    ///
    /// The mutex is acquired after the thread has attached again.
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
    ///     // Unlocks the mutex before PyO3 converts the lines to a Python list.
    ///     let lines = LINES.lock_attached(py).unwrap().clone();
    ///     lines
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| assert!(lines(py).is_empty()));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if a [`std::sync::Mutex`] is poisoned.
    ///
    /// # Deadlocks
    ///
    /// Blocks forever where `lock` does. No deadlock is reported, see [`ext`](super#deadlocks).
    fn lock_attached(&self, py: Python<'_>) -> Self::LockResult<'_>;

    /// Calls [`lock_attached`](Self::lock_attached).
    ///
    /// This is the name of the method in `pyo3::sync::MutexExt`.
    ///
    /// # Errors
    ///
    /// See [`lock_attached`](Self::lock_attached).
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
        acquire_attached(
            py,
            || ignore_would_block(self.try_lock()),
            || drop(self.lock()),
        )
    }
}
