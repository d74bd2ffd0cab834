//! To empty a cell takes an exclusive borrow, so that nobody uses the value.
//@ error: E0502

use pyo3::Python;
use pyo3_sync::PyOnceLock;

pub fn case(py: Python<'_>, mut cell: PyOnceLock<String>) {
    let value = cell.get(py);
    #[cfg(not(feature = "fail"))]
    drop(value.cloned());
    cell.take();
    #[cfg(feature = "fail")]
    drop(value.cloned());
}
