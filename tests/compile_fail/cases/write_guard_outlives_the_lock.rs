//! A guard borrows its lock; one that owns a reference does not.
//@ error: E0597

use std::sync::Arc;

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>) -> i32 {
    let guard;
    {
        let lock = Arc::new(PyRwLock::new(1));
        #[cfg(feature = "fail")]
        let locked = lock.write(py);
        #[cfg(not(feature = "fail"))]
        let locked = PyRwLock::write_arc(&lock, py);
        guard = locked;
    }
    *guard
}
