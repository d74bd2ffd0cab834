//! Whoever reads, reads with others.
//@ error: E0594

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>, lock: &PyRwLock<i32>) {
    #[cfg(feature = "fail")]
    let guard = lock.read(py);
    #[cfg(not(feature = "fail"))]
    let mut guard = lock.write(py);
    *guard += 1;
}
