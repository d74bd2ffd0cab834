//! A visit that is leaked lives no longer than before: what a cell gives to the collector is for the length of the
//! visit, whatever the cell is.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyOnceLock;

static CELL: PyOnceLock<i32> = PyOnceLock::new();

#[cfg(feature = "fail")]
pub fn case(visit: PyVisit<'_>) -> Option<&'static i32> {
    CELL.traverse(Box::leak(Box::new(visit)))
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: PyVisit<'visit>) -> Option<&'visit i32> {
    CELL.traverse(Box::leak(Box::new(visit)))
}
