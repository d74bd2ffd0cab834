//! The traits for the types of `lock_api`, which those of `parking_lot` are; and for its guards that own the lock.

use std::sync::Arc;

use lock_api::{
    ArcMutexGuard, ArcReentrantMutexGuard, ArcRwLockReadGuard, ArcRwLockWriteGuard, GetThreadId,
    Mutex, MutexGuard, RawMutex, RawRwLock, ReentrantMutex, ReentrantMutexGuard, RwLock,
    RwLockReadGuard, RwLockWriteGuard,
};
use pyo3::Python;

use super::{MutexExt, RwLockExt, sealed::Sealed, take_attached};

impl<R: RawMutex, T: ?Sized> Sealed for Mutex<R, T> {}

impl<R: RawMutex, T: ?Sized> MutexExt for Mutex<R, T> {
    type LockResult<'a>
        = MutexGuard<'a, R, T>
    where
        Self: 'a;

    #[inline]
    fn lock_attached(&self, py: Python<'_>) -> Self::LockResult<'_> {
        take_attached(py, || self.try_lock(), || drop(self.lock()))
    }
}

impl<R: RawMutex, G: GetThreadId, T: ?Sized> Sealed for ReentrantMutex<R, G, T> {}

impl<R: RawMutex, G: GetThreadId, T: ?Sized> MutexExt for ReentrantMutex<R, G, T> {
    type LockResult<'a>
        = ReentrantMutexGuard<'a, R, G, T>
    where
        Self: 'a;

    #[inline]
    fn lock_attached(&self, py: Python<'_>) -> Self::LockResult<'_> {
        take_attached(py, || self.try_lock(), || drop(self.lock()))
    }
}

impl<R: RawRwLock, T: ?Sized> Sealed for RwLock<R, T> {}

impl<R: RawRwLock, T: ?Sized> RwLockExt for RwLock<R, T> {
    type ReadLockResult<'a>
        = RwLockReadGuard<'a, R, T>
    where
        Self: 'a;

    type WriteLockResult<'a>
        = RwLockWriteGuard<'a, R, T>
    where
        Self: 'a;

    #[inline]
    fn read_attached(&self, py: Python<'_>) -> Self::ReadLockResult<'_> {
        take_attached(py, || self.try_read(), || drop(self.read()))
    }

    #[inline]
    fn write_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_> {
        take_attached(py, || self.try_write(), || drop(self.write()))
    }
}

/// [`MutexExt`] for the guards of `lock_api` that own their mutex.
///
/// PyO3 gives these to whoever calls `lock_py_attached` on an `Arc`. Here they have the name that `lock_api` gives them.
///
/// ```
/// use lock_api::{ArcMutexGuard, Mutex, RawMutex};
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::MutexArcExt;
/// use std::{collections::HashMap, sync::Arc};
///
/// /// `R` is `parking_lot::RawMutex`, say.
/// fn account<R: RawMutex>(
///     py: Python<'_>,
///     all: &HashMap<String, Arc<Mutex<R, u64>>>,
///     name: &str,
/// ) -> Option<ArcMutexGuard<R, u64>> {
///     all.get(name).map(|account| account.lock_arc_attached(py))
/// }
/// ```
pub trait MutexArcExt: Sealed {
    /// What `lock_arc` gives.
    type Guard;

    /// `lock_arc`, detached while it waits. The mutex is taken after having attached again.
    ///
    /// # Deadlocks
    ///
    /// As [`MutexExt::lock_attached`].
    fn lock_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::Guard;
}

impl<R: RawMutex, T: ?Sized> MutexArcExt for Mutex<R, T> {
    type Guard = ArcMutexGuard<R, T>;

    #[inline]
    fn lock_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::Guard {
        take_attached(py, || self.try_lock_arc(), || drop(self.lock()))
    }
}

impl<R: RawMutex, G: GetThreadId, T: ?Sized> MutexArcExt for ReentrantMutex<R, G, T> {
    type Guard = ArcReentrantMutexGuard<R, G, T>;

    #[inline]
    fn lock_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::Guard {
        take_attached(py, || self.try_lock_arc(), || drop(self.lock()))
    }
}

/// [`RwLockExt`] for the guards of `lock_api` that own their lock.
///
/// ```
/// use lock_api::{ArcRwLockReadGuard, RawRwLock, RwLock};
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::RwLockArcExt;
/// use std::{collections::HashMap, sync::Arc};
///
/// /// `R` is `parking_lot::RawRwLock`, say.
/// fn table<R: RawRwLock>(
///     py: Python<'_>,
///     all: &HashMap<String, Arc<RwLock<R, Vec<u64>>>>,
///     name: &str,
/// ) -> Option<ArcRwLockReadGuard<R, Vec<u64>>> {
///     all.get(name).map(|table| table.read_arc_attached(py))
/// }
/// ```
pub trait RwLockArcExt: Sealed {
    /// What `read_arc` gives.
    type ReadGuard;

    /// What `write_arc` gives.
    type WriteGuard;

    /// `read_arc`, detached while it waits. The lock is taken after having attached again.
    ///
    /// # Deadlocks
    ///
    /// As [`RwLockExt::read_attached`].
    fn read_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::ReadGuard;

    /// `write_arc`, detached while it waits. The lock is taken after having attached again.
    ///
    /// # Deadlocks
    ///
    /// As [`RwLockExt::write_attached`].
    fn write_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::WriteGuard;
}

impl<R: RawRwLock, T: ?Sized> RwLockArcExt for RwLock<R, T> {
    type ReadGuard = ArcRwLockReadGuard<R, T>;
    type WriteGuard = ArcRwLockWriteGuard<R, T>;

    #[inline]
    fn read_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::ReadGuard {
        take_attached(py, || self.try_read_arc(), || drop(self.read()))
    }

    #[inline]
    fn write_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::WriteGuard {
        take_attached(py, || self.try_write_arc(), || drop(self.write()))
    }
}
