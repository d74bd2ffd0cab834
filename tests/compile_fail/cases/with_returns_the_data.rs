//! The data are lent for the length of the closure, during which the mutex is locked, and its result outlives it.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(py: Python<'_>, mutex: &PyMutex<i32>) -> i32 {
    #[cfg(feature = "fail")]
    let value = *mutex.with(py, |value| value);
    #[cfg(not(feature = "fail"))]
    let value = mutex.with(py, |value| *value);
    value
}
