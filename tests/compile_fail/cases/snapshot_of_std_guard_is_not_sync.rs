//! The last reader drops the value of another thread, so the value must be `Send`.
//@ error: E0277

use pyo3_sync::PySnapshot;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<PySnapshot<std::sync::MutexGuard<'static, i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<PySnapshot<i32>>();
}
