//! A guard that owns a reference shows its `Arc` to whoever shares the guard: another thread could clone it, and become the
//! one that drops the data. A guard of `std` must be dropped by the thread that locked: it is `Sync` and not `Send`, and
//! `T: Sync` alone would let it in. A guard that was mapped shows no way to the mutex.
//@ error: E0277

use std::sync::MutexGuard;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<pyo3_sync::ArcPyMutexGuard<'static, MutexGuard<'static, i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<pyo3_sync::MappedPyMutexGuard<'static, MutexGuard<'static, i32>>>();
}
