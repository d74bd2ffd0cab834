//! The data are lent for the length of the closure, during which the cell is locked, and its result outlives it.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::PyProtected;

pub fn case(py: Python<'_>, cell: &PyProtected<i32>) -> i32 {
    #[cfg(feature = "fail")]
    let value = *cell.with_mut(py, |value| value);
    #[cfg(not(feature = "fail"))]
    let value = cell.with_mut(py, |value| *value);
    value
}
