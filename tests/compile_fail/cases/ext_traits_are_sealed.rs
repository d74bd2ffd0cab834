//! The traits of `ext` are for the types that they are implemented for there: methods can be added to them.
//@ error: E0277
//@ places: 8

use std::{
    sync::{Arc, BarrierWaitResult, LockResult, Mutex, MutexGuard, OnceState},
    time::Duration,
};

use pyo3::Python;
use pyo3_sync::ext::WaitTimeoutResult;
#[cfg(feature = "fail")]
use pyo3_sync::ext::*;

pub struct Own;

/// As they are, but not sealed.
#[cfg(not(feature = "fail"))]
pub mod copies {
    use super::*;

    pub trait MutexExt {
        type LockResult<'a>
        where
            Self: 'a;
        fn lock_attached(&self, py: Python<'_>) -> Self::LockResult<'_>;
    }
    pub trait RwLockExt {
        type ReadLockResult<'a>
        where
            Self: 'a;
        type WriteLockResult<'a>
        where
            Self: 'a;
        fn read_attached(&self, py: Python<'_>) -> Self::ReadLockResult<'_>;
        fn write_attached(&self, py: Python<'_>) -> Self::WriteLockResult<'_>;
    }
    pub trait OnceExt {
        fn call_once_attached(&self, py: Python<'_>, f: impl FnOnce());
        fn call_once_force_attached(&self, py: Python<'_>, f: impl FnOnce(&OnceState));
    }
    pub trait OnceLockExt<T> {
        fn get_or_init_attached(&self, py: Python<'_>, f: impl FnOnce() -> T) -> &T;
    }
    pub trait BarrierExt {
        fn wait_attached(&self, py: Python<'_>) -> BarrierWaitResult;
    }
    pub trait MutexArcExt {
        type Guard;
        fn lock_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::Guard;
    }
    pub trait RwLockArcExt {
        type ReadGuard;
        type WriteGuard;
        fn read_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::ReadGuard;
        fn write_arc_attached(self: &Arc<Self>, py: Python<'_>) -> Self::WriteGuard;
    }
    #[rustfmt::skip]
    pub trait CondvarExt {
        fn wait_attached<'a, T>(&self, py: Python<'_>, mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>>;
        fn wait_while_attached<'a, T>(&self, py: Python<'_>, mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>, condition: impl FnMut(&mut T) -> bool) -> LockResult<MutexGuard<'a, T>>;
        fn wait_timeout_attached<'a, T>(&self, py: Python<'_>, mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>, limit: Duration) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;
        fn wait_timeout_while_attached<'a, T>(&self, py: Python<'_>, mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>, limit: Duration, condition: impl FnMut(&mut T) -> bool) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;
    }
}
#[cfg(not(feature = "fail"))]
use copies::*;

impl MutexExt for Own {
    type LockResult<'a> = ();
    fn lock_attached(&self, _: Python<'_>) {}
}
impl RwLockExt for Own {
    type ReadLockResult<'a> = ();
    type WriteLockResult<'a> = ();
    fn read_attached(&self, _: Python<'_>) {}
    fn write_attached(&self, _: Python<'_>) {}
}
impl OnceExt for Own {
    fn call_once_attached(&self, _: Python<'_>, _: impl FnOnce()) {}
    fn call_once_force_attached(&self, _: Python<'_>, _: impl FnOnce(&OnceState)) {}
}
impl<T> OnceLockExt<T> for Own {
    fn get_or_init_attached(&self, _: Python<'_>, _: impl FnOnce() -> T) -> &T {
        unimplemented!()
    }
}
impl BarrierExt for Own {
    fn wait_attached(&self, _: Python<'_>) -> BarrierWaitResult {
        unimplemented!()
    }
}
impl MutexArcExt for Own {
    type Guard = ();
    fn lock_arc_attached(self: &Arc<Self>, _: Python<'_>) {}
}
impl RwLockArcExt for Own {
    type ReadGuard = ();
    type WriteGuard = ();
    fn read_arc_attached(self: &Arc<Self>, _: Python<'_>) {}
    fn write_arc_attached(self: &Arc<Self>, _: Python<'_>) {}
}
#[rustfmt::skip]
impl CondvarExt for Own {
    fn wait_attached<'a, T>(&self, _: Python<'_>, _: &'a Mutex<T>, _: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        unimplemented!()
    }
    fn wait_while_attached<'a, T>(&self, _: Python<'_>, _: &'a Mutex<T>, _: MutexGuard<'a, T>, _: impl FnMut(&mut T) -> bool) -> LockResult<MutexGuard<'a, T>> {
        unimplemented!()
    }
    fn wait_timeout_attached<'a, T>(&self, _: Python<'_>, _: &'a Mutex<T>, _: MutexGuard<'a, T>, _: Duration) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        unimplemented!()
    }
    fn wait_timeout_while_attached<'a, T>(&self, _: Python<'_>, _: &'a Mutex<T>, _: MutexGuard<'a, T>, _: Duration, _: impl FnMut(&mut T) -> bool) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        unimplemented!()
    }
}
