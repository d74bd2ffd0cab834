//! All threads that share a cell share its value at the same time, unlike that of a mutex.
//@ error: E0277

use pyo3_sync::PyOnceLock;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<PyOnceLock<std::cell::Cell<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<PyOnceLock<std::sync::atomic::AtomicI32>>();
}
