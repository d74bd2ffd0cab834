//! A guard borrows its mutex; one that owns a reference does not.
//@ error: E0597

use std::sync::Arc;

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(py: Python<'_>) -> i32 {
    let guard;
    {
        let mutex = Arc::new(PyMutex::new(1));
        #[cfg(feature = "fail")]
        let locked = mutex.lock(py);
        #[cfg(not(feature = "fail"))]
        let locked = PyMutex::lock_arc(&mutex, py);
        guard = locked;
    }
    *guard
}
