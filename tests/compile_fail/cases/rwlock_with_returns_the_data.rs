//! The data are lent for the length of the closure, during which the lock is locked, and its result outlives it.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>, lock: &PyRwLock<i32>) -> i32 {
    #[cfg(feature = "fail")]
    let value = *lock.with(py, |value| value);
    #[cfg(not(feature = "fail"))]
    let value = lock.with(py, |value| *value);
    value
}
