//! What a cell gives to the collector is for the length of the visit, whatever the cell is: the reference must not
//! leave the visit.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyOnceLock;

static CELL: PyOnceLock<i32> = PyOnceLock::new();

#[cfg(feature = "fail")]
pub fn case(visit: &PyVisit<'_>) -> Option<&'static i32> {
    CELL.traverse(visit)
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: &'visit PyVisit<'_>) -> Option<&'visit i32> {
    CELL.traverse(visit)
}
