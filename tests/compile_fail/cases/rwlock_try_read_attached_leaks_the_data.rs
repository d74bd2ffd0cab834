//! The data are lent for the length of the closure, during which the lock is locked.
//@ error: E0521

use pyo3_sync::PyRwLock;

pub fn case(lock: &PyRwLock<i32>) -> bool {
    let mut kept = None;
    let _ = lock.try_read_attached(|_py, value| {
        #[cfg(feature = "fail")]
        let value = kept.insert(value);
        #[cfg(not(feature = "fail"))]
        let value = kept.insert(*value);
        let _ = value;
    });
    kept.is_some()
}
