//! What a lazy value gives to the collector is for the length of the visit, whatever it is: the reference must not
//! leave the visit.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyLazy;

static LAZY: PyLazy<i32> = PyLazy::new(|_| 0);

#[cfg(feature = "fail")]
pub fn case(visit: &PyVisit<'_>) -> Option<&'static i32> {
    LAZY.traverse(visit)
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: &'visit PyVisit<'_>) -> Option<&'visit i32> {
    LAZY.traverse(visit)
}
