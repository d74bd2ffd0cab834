//! A visit that is leaked lives no longer than before: a mutex may be locked and its data changed as soon as the
//! collector has gone on.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyMutex;

static MUTEX: PyMutex<i32> = PyMutex::new(0);

#[cfg(feature = "fail")]
pub fn case(visit: PyVisit<'_>) -> Option<&'static i32> {
    MUTEX.traverse(Box::leak(Box::new(visit)))
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: PyVisit<'visit>) -> Option<&'visit i32> {
    MUTEX.traverse(Box::leak(Box::new(visit)))
}
