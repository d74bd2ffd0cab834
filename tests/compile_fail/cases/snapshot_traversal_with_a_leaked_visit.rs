//! Another thread may replace the value after the visit, with which the reference ends.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PySnapshot;

static SNAPSHOT: PySnapshot<i32> = PySnapshot::new(0);

#[cfg(feature = "fail")]
pub fn case(visit: PyVisit<'_>) -> &'static i32 {
    SNAPSHOT.traverse(Box::leak(Box::new(visit)))
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: PyVisit<'visit>) -> &'visit i32 {
    SNAPSHOT.traverse(Box::leak(Box::new(visit)))
}
