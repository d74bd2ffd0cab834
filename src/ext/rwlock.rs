//! [`RwLockExt`] for [`std::sync::RwLock`].

use std::sync::{self, RwLockReadGuard, RwLockWriteGuard};

use pyo3::Python;

use super::{sealed::Sealed, take_attached, unless_taken};

/// Takes a read-write lock without keeping the interpreter from others, for attached threads.
///
/// For [`std::sync::RwLock`], and with the feature `lock_api` for `lock_api::RwLock`, which that of `parking_lot` is.
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
    /// What `read` gives.
    type ReadLockResult<'a>
    where
        Self: 'a;

    /// What `write` gives.
    type WriteLockResult<'a>
    where
        Self: 'a;

    /// `read`, detached while it waits. The lock is taken after having attached again.
    ///
    /// # Errors
    ///
    /// As `read`: with `std`'s, if the lock is poisoned.
    ///
    /// # Deadlocks
    ///
    /// As `read`, none of which is reported. One that is easily overlooked: a thread that reads already waits for ever behind a
    /// writer that waits for it.
    fn read_attached(&self, py: Python<'_>) -> Self::ReadLockResult<'_>;

    /// `write`, detached while it waits. The lock is taken after having attached again.
    ///
    /// # Errors
    ///
    /// As `write`: with `std`'s, if the lock is poisoned.
    ///
    /// # Deadlocks
    ///
    /// As `write`, none of which is reported: [`ext`](super#what-is-not-detected).
    fn write_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_>;

    /// [`read_attached`](Self::read_attached) under the name that `pyo3::sync::RwLockExt` gives it.
    ///
    /// # Errors
    ///
    /// As `read`.
    #[inline]
    fn read_py_attached(&self, py: Python<'_>) -> Self::ReadLockResult<'_> {
        self.read_attached(py)
    }

    /// [`write_attached`](Self::write_attached) under the name that `pyo3::sync::RwLockExt` gives it.
    ///
    /// # Errors
    ///
    /// As `write`.
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
        take_attached(py, || unless_taken(self.try_read()), || drop(self.read()))
    }

    #[inline]
    fn write_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_> {
        take_attached(py, || unless_taken(self.try_write()), || drop(self.write()))
    }
}
