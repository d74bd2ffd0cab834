//! The data are lent by the guard, and the guard unlocks at the end of the statement if nobody keeps it.
//@ error: E0716

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(py: Python<'_>, mutex: &PyMutex<String>) -> usize {
    #[cfg(feature = "fail")]
    let data = mutex.lock(py).as_str();
    #[cfg(not(feature = "fail"))]
    let data = mutex.lock(py);
    data.len()
}
