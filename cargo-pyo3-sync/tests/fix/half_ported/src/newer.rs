//! As those do it that go with several versions of PyO3.

#[cfg(target_pointer_width = "64")]
use pyo3::sync::GILOnceCell as PyOnceLock;
#[cfg(not(target_pointer_width = "64"))]
use pyo3::sync::PyOnceLock;

static CELL: PyOnceLock<u8> = PyOnceLock::new();

pub fn get(py: pyo3::Python<'_>) -> Option<u8> {
    CELL.get(py).copied()
}
