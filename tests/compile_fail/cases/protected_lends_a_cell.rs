//! What several threads may have at once must be `Sync`; a `Cell` is used through `with_mut`.
//@ error: E0277

use std::cell::Cell;

use pyo3::Python;
use pyo3_sync::PyProtected;

pub fn case(py: Python<'_>, cell: &PyProtected<Cell<i32>>) -> i32 {
    #[cfg(feature = "fail")]
    return cell.with(py, |data| data.get());
    #[cfg(not(feature = "fail"))]
    return cell.with_mut(py, |data| data.get());
}
