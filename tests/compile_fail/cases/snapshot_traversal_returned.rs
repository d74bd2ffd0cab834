//! Another thread may replace the value after the visit, with which the reference ends.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PySnapshot;

static SNAPSHOT: PySnapshot<i32> = PySnapshot::new(0);

#[cfg(feature = "fail")]
pub fn case(visit: &PyVisit<'_>) -> &'static i32 {
    SNAPSHOT.traverse(visit)
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: &'visit PyVisit<'_>) -> &'visit i32 {
    SNAPSHOT.traverse(visit)
}
