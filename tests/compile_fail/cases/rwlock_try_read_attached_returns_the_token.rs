//! The token is valid for the length of the closure, and its result outlives it.
//@ error: lifetime may not live long enough

use pyo3_sync::PyRwLock;

pub fn case(lock: &PyRwLock<i32>) -> bool {
    #[cfg(feature = "fail")]
    let result = lock.try_read_attached(|py, _value| py);
    #[cfg(not(feature = "fail"))]
    let result = lock.try_read_attached(|py, _value| py.None());
    result.is_ok()
}
