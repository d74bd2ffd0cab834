//! A mapped guard that threads share gives all of them the data, so the data must be `Sync` (rust#41622). That the
//! mutex around them is `Sync` without it is no reason.
//@ error: E0277

use pyo3_sync::MappedPyMutexGuard;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<MappedPyMutexGuard<'static, std::cell::Cell<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<MappedPyMutexGuard<'static, std::sync::atomic::AtomicI32>>();
}
