//! A mutex may be locked and its data changed as soon as the collector has gone on: the reference must not leave the
//! visit.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyMutex;

static MUTEX: PyMutex<i32> = PyMutex::new(0);

#[cfg(feature = "fail")]
pub fn case(visit: &PyVisit<'_>) -> Option<&'static i32> {
    MUTEX.traverse(visit)
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: &'visit PyVisit<'_>) -> Option<&'visit i32> {
    MUTEX.traverse(visit)
}
