//! The value is borrowed from the cell, not from the token.
//@ error: E0597

use pyo3::Python;
use pyo3_sync::PyOnceLock;

pub fn case(py: Python<'_>) -> i32 {
    #[cfg(not(feature = "fail"))]
    let cell = PyOnceLock::new();
    let value;
    {
        #[cfg(feature = "fail")]
        let cell = PyOnceLock::new();
        value = cell.get_or_init(py, || 1);
    }
    *value
}
