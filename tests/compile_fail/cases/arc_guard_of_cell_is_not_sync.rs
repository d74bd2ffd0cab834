//! A guard that owns a reference to its mutex that threads share gives all of them the data, so the data must be
//! `Sync` (rust#41622). That the mutex around them is `Sync` without it is no reason.
//@ error: E0277

use pyo3_sync::ArcPyMutexGuard;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<ArcPyMutexGuard<'static, std::cell::Cell<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<ArcPyMutexGuard<'static, std::sync::atomic::AtomicI32>>();
}
