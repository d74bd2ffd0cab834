//! One thread can fill a shared cell and another drop the value. A guard of `std` must be dropped by the thread that
//! locked: it is `Sync` and not `Send`, and `T: Sync` alone would let it in.
//@ error: E0277

use pyo3_sync::PyOnceLock;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<PyOnceLock<std::sync::MutexGuard<'static, i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<PyOnceLock<&'static std::sync::Mutex<i32>>>();
}
