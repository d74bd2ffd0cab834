//! The data are lent for the length of the closure, during which the cell is locked.
//@ error: E0521

use pyo3::Python;
use pyo3_sync::PyProtected;

pub fn case(py: Python<'_>, cell: &PyProtected<i32>) -> bool {
    let mut kept = None;
    cell.with_mut(py, |value| {
        #[cfg(feature = "fail")]
        let value = kept.insert(value);
        #[cfg(not(feature = "fail"))]
        let value = kept.insert(*value);
        let _ = value;
    });
    kept.is_some()
}
