//! A visit that is leaked lives no longer than before: what a lazy value gives to the collector is for the length of the
//! visit, whatever it is.
//@ error: lifetime may not live long enough

use pyo3::PyVisit;
use pyo3_sync::PyTryLazy;

static LAZY: PyTryLazy<i32> = PyTryLazy::new(|_| Ok(0));

#[cfg(feature = "fail")]
pub fn case(visit: PyVisit<'_>) -> Option<&'static i32> {
    LAZY.traverse(Box::leak(Box::new(visit)))
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: PyVisit<'visit>) -> Option<&'visit i32> {
    LAZY.traverse(Box::leak(Box::new(visit)))
}
