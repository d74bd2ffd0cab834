//! The data are lent for the length of the closure, and its result outlives it.
//@ error: lifetime may not live long enough

use pyo3_sync::PyRwLock;

pub fn case(lock: &PyRwLock<i32>) -> bool {
    #[cfg(feature = "fail")]
    let value = lock.try_read_attached(|_py, value| value);
    #[cfg(not(feature = "fail"))]
    let value = lock.try_read_attached(|_py, value| *value);
    value.is_ok()
}
