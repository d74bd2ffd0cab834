//! [`RwLockExt`] for [`std::sync::RwLock`].

use std::sync::{self, RwLockReadGuard, RwLockWriteGuard};

use pyo3::Python;

use super::{acquire_attached, ignore_would_block, sealed::Sealed};

/// Locks a read-write lock from an attached thread, detaching while it blocks.
///
/// Implemented for [`std::sync::RwLock`] and, with the feature `lock_api`, for `lock_api::RwLock`.
/// The lock of `parking_lot` is an alias of the latter.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::RwLockExt;
/// use std::{collections::HashMap, sync::RwLock};
///
/// struct Routes(RwLock<HashMap<String, u32>>);
///
/// impl Routes {
///     fn find(&self, py: Python<'_>, name: &str) -> Option<u32> {
///         self.0.read_attached(py).unwrap().get(name).copied()
///     }
///
///     fn add(&self, py: Python<'_>, name: String, to: u32) {
///         self.0.write_attached(py).unwrap().insert(name, to);
///     }
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     let routes = Routes(RwLock::default());
/// #     routes.add(py, "home".to_owned(), 1);
/// #     assert_eq!(routes.find(py, "home"), Some(1));
/// # });
/// ```
pub trait RwLockExt: Sealed {
    /// The return type of `read`.
    type ReadLockResult<'a>
    where
        Self: 'a;

    /// The return type of `write`.
    type WriteLockResult<'a>
    where
        Self: 'a;

    /// Locks for reading as `read` does, detaching while it blocks.
    ///
    /// The lock is acquired after the thread has attached again.
    ///
    /// # Errors
    ///
    /// Returns an error if a [`std::sync::RwLock`] is poisoned.
    ///
    /// # Deadlocks
    ///
    /// Blocks forever where `read` does. A second `read` on the same thread may block behind a
    /// writer that waits for the first one. No deadlock is reported, see [`ext`](super#deadlocks).
    fn read_attached(&self, py: Python<'_>) -> Self::ReadLockResult<'_>;

    /// Locks for writing as `write` does, detaching while it blocks.
    ///
    /// The lock is acquired after the thread has attached again.
    ///
    /// # Errors
    ///
    /// Returns an error if a [`std::sync::RwLock`] is poisoned.
    ///
    /// # Deadlocks
    ///
    /// Blocks forever where `write` does. No deadlock is reported, see [`ext`](super#deadlocks).
    fn write_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_>;

    /// Calls [`read_attached`](Self::read_attached).
    ///
    /// This is the name of the method in `pyo3::sync::RwLockExt`.
    ///
    /// # Errors
    ///
    /// See [`read_attached`](Self::read_attached).
    #[inline]
    fn read_py_attached(&self, py: Python<'_>) -> Self::ReadLockResult<'_> {
        self.read_attached(py)
    }

    /// Calls [`write_attached`](Self::write_attached).
    ///
    /// This is the name of the method in `pyo3::sync::RwLockExt`.
    ///
    /// # Errors
    ///
    /// See [`write_attached`](Self::write_attached).
    #[inline]
    fn write_py_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_> {
        self.write_attached(py)
    }
}

impl<T: ?Sized> Sealed for sync::RwLock<T> {}

impl<T: ?Sized> RwLockExt for sync::RwLock<T> {
    type ReadLockResult<'a>
        = sync::LockResult<RwLockReadGuard<'a, T>>
    where
        Self: 'a;

    type WriteLockResult<'a>
        = sync::LockResult<RwLockWriteGuard<'a, T>>
    where
        Self: 'a;

    #[inline]
    fn read_attached(&self, py: Python<'_>) -> Self::ReadLockResult<'_> {
        acquire_attached(
            py,
            || ignore_would_block(self.try_read()),
            || drop(self.read()),
        )
    }

    #[inline]
    fn write_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_> {
        acquire_attached(
            py,
            || ignore_would_block(self.try_write()),
            || drop(self.write()),
        )
    }
}
