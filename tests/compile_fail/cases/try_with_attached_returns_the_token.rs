//! The token is valid for the length of the closure, and its result outlives it.
//@ error: lifetime may not live long enough

use pyo3_sync::PyMutex;

pub fn case(mutex: &PyMutex<i32>) -> bool {
    #[cfg(feature = "fail")]
    let result = mutex.try_with_attached(|py, _value| py);
    #[cfg(not(feature = "fail"))]
    let result = mutex.try_with_attached(|py, _value| py.None());
    result.is_ok()
}
