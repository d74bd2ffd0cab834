//! A mutex lends its data to be changed. Were it taken for one of shorter-lived data, such could be put in and
//! outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::PyMutex;

#[cfg(feature = "fail")]
pub fn shorten<'a>(lock: &'a PyMutex<&'static str>) -> &'a PyMutex<&'a str> {
    lock
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(lock: &'b PyMutex<&'static str>) -> &'a PyMutex<&'static str> {
    lock
}
