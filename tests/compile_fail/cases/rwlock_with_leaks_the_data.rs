//! The data are lent for the length of the closure, during which the lock is locked.
//@ error: E0521

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>, lock: &PyRwLock<i32>) -> bool {
    let mut kept = None;
    lock.with(py, |value| {
        #[cfg(feature = "fail")]
        let value = kept.insert(value);
        #[cfg(not(feature = "fail"))]
        let value = kept.insert(*value);
        let _ = value;
    });
    kept.is_some()
}
