//! A visit that is leaked lives no longer than before: a lock may be locked and its data changed as soon as the
//! collector has gone on.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyRwLock;

static LOCK: PyRwLock<i32> = PyRwLock::new(0);

#[cfg(feature = "fail")]
pub fn case(visit: PyVisit<'_>) -> Option<&'static i32> {
    LOCK.traverse(Box::leak(Box::new(visit)))
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: PyVisit<'visit>) -> Option<&'visit i32> {
    LOCK.traverse(Box::leak(Box::new(visit)))
}
