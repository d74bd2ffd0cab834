//! The token is valid for the length of the closure; after it the thread may be detached.
//@ error: E0521

use pyo3_sync::PyRwLock;

pub fn case(lock: &PyRwLock<i32>) -> bool {
    let mut kept = None;
    let _ = lock.try_read_attached(|py, _value| {
        #[cfg(feature = "fail")]
        let py = kept.insert(py);
        #[cfg(not(feature = "fail"))]
        let py = kept.insert(py.None());
        let _ = py;
    });
    kept.is_some()
}
