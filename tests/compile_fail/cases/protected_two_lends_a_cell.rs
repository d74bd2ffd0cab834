//! What several threads may have at once must be `Sync`, the data of the second cell too.
//@ error: E0277

use std::cell::Cell;

use pyo3::Python;
use pyo3_sync::PyProtected;

pub fn case(py: Python<'_>, one: &PyProtected<i32>, two: &PyProtected<Cell<i32>>) -> i32 {
    #[cfg(feature = "fail")]
    return one.with2(py, two, |one, two| one + two.get());
    #[cfg(not(feature = "fail"))]
    return one.with2_mut(py, two, |one, two| *one + two.get());
}
