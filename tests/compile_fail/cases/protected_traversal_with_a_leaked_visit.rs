//! A visit that is leaked lives no longer than before: a cell may be locked and its data changed as soon as the
//! collector has gone on.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyProtected;

static CELL: PyProtected<i32> = PyProtected::new(0);

#[cfg(feature = "fail")]
pub fn case(visit: PyVisit<'_>) -> Option<&'static i32> {
    CELL.traverse(Box::leak(Box::new(visit)))
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: PyVisit<'visit>) -> Option<&'visit i32> {
    CELL.traverse(Box::leak(Box::new(visit)))
}
