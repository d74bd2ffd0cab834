//! A cell may be borrowed and its data changed as soon as the collector has gone on: the reference must not leave the
//! visit.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyProtected;

static CELL: PyProtected<i32> = PyProtected::new(0);

#[cfg(feature = "fail")]
pub fn case(visit: &PyVisit<'_>) -> Option<&'static i32> {
    CELL.traverse(visit)
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: &'visit PyVisit<'_>) -> Option<&'visit i32> {
    CELL.traverse(visit)
}
