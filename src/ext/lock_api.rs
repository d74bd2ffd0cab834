//! Implementations for the types of `lock_api`, and the traits that return `Arc` guards.

use std::sync::Arc;

use lock_api::{
    ArcMutexGuard, ArcReentrantMutexGuard, ArcRwLockReadGuard, ArcRwLockWriteGuard, GetThreadId,
    Mutex, MutexGuard, RawMutex, RawRwLock, ReentrantMutex, ReentrantMutexGuard, RwLock,
    RwLockReadGuard, RwLockWriteGuard,
};
use pyo3::Python;

use super::{MutexExt, RwLockExt, acquire_attached, sealed::Sealed};

impl<R: RawMutex, T: ?Sized> Sealed for Mutex<R, T> {}

impl<R: RawMutex, T: ?Sized> MutexExt for Mutex<R, T> {
    type LockResult<'a>
        = MutexGuard<'a, R, T>
    where
        Self: 'a;

    #[inline]
    fn lock_attached(&self, py: Python<'_>) -> Self::LockResult<'_> {
        acquire_attached(py, || self.try_lock(), || drop(self.lock()))
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
        acquire_attached(py, || self.try_lock(), || drop(self.lock()))
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
        acquire_attached(py, || self.try_read(), || drop(self.read()))
    }

    #[inline]
    fn write_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_> {
        acquire_attached(py, || self.try_write(), || drop(self.write()))
    }
}

/// Locks a `lock_api` mutex in an [`Arc`] from an attached thread.
///
/// The methods detach while they block. The returned guards own the mutex. In PyO3,
/// `lock_py_attached` on an `Arc` returns such a guard; this trait uses the name of `lock_api`.
///
/// ```
/// use lock_api::{ArcMutexGuard, Mutex, RawMutex};
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::MutexArcExt;
/// use std::{collections::HashMap, sync::Arc};
///
/// /// `R` is for example `parking_lot::RawMutex`.
/// fn account<R: RawMutex>(
///     py: Python<'_>,
///     all: &HashMap<String, Arc<Mutex<R, u64>>>,
///     name: &str,
/// ) -> Option<ArcMutexGuard<R, u64>> {
///     all.get(name).map(|account| account.lock_arc_attached(py))
/// }
/// ```
pub trait MutexArcExt: Sealed {
    /// The return type of `lock_arc`.
    type Guard;

    /// Locks the mutex as `lock_arc` does, detaching while it blocks.
    ///
    /// The mutex is acquired after the thread has attached again.
    ///
    /// # Deadlocks
    ///
    /// See [`MutexExt::lock_attached`].
    fn lock_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::Guard;
}

impl<R: RawMutex, T: ?Sized> MutexArcExt for Mutex<R, T> {
    type Guard = ArcMutexGuard<R, T>;

    #[inline]
    fn lock_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::Guard {
        acquire_attached(py, || self.try_lock_arc(), || drop(self.lock()))
    }
}

impl<R: RawMutex, G: GetThreadId, T: ?Sized> MutexArcExt for ReentrantMutex<R, G, T> {
    type Guard = ArcReentrantMutexGuard<R, G, T>;

    #[inline]
    fn lock_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::Guard {
        acquire_attached(py, || self.try_lock_arc(), || drop(self.lock()))
    }
}

/// Locks a `lock_api` read-write lock in an [`Arc`] from an attached thread.
///
/// The methods detach while they block. The returned guards own the lock.
///
/// ```
/// use lock_api::{ArcRwLockReadGuard, RawRwLock, RwLock};
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::RwLockArcExt;
/// use std::{collections::HashMap, sync::Arc};
///
/// /// `R` is for example `parking_lot::RawRwLock`.
/// fn table<R: RawRwLock>(
///     py: Python<'_>,
///     all: &HashMap<String, Arc<RwLock<R, Vec<u64>>>>,
///     name: &str,
/// ) -> Option<ArcRwLockReadGuard<R, Vec<u64>>> {
///     all.get(name).map(|table| table.read_arc_attached(py))
/// }
/// ```
pub trait RwLockArcExt: Sealed {
    /// The return type of `read_arc`.
    type ReadGuard;

    /// The return type of `write_arc`.
    type WriteGuard;

    /// Locks for reading as `read_arc` does, detaching while it blocks.
    ///
    /// The lock is acquired after the thread has attached again.
    ///
    /// # Deadlocks
    ///
    /// See [`RwLockExt::read_attached`].
    fn read_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::ReadGuard;

    /// Locks for writing as `write_arc` does, detaching while it blocks.
    ///
    /// The lock is acquired after the thread has attached again.
    ///
    /// # Deadlocks
    ///
    /// See [`RwLockExt::write_attached`].
    fn write_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::WriteGuard;
}

impl<R: RawRwLock, T: ?Sized> RwLockArcExt for RwLock<R, T> {
    type ReadGuard = ArcRwLockReadGuard<R, T>;
    type WriteGuard = ArcRwLockWriteGuard<R, T>;

    #[inline]
    fn read_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::ReadGuard {
        acquire_attached(py, || self.try_read_arc(), || drop(self.read()))
    }

    #[inline]
    fn write_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::WriteGuard {
        acquire_attached(py, || self.try_write_arc(), || drop(self.write()))
    }
}
