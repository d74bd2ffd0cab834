//! A lock lends its data to be changed. Were it taken for one of shorter-lived data, such could be put in and
//! outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::PyRwLock;

#[cfg(feature = "fail")]
pub fn shorten<'a>(lock: &'a PyRwLock<&'static str>) -> &'a PyRwLock<&'a str> {
    lock
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(lock: &'b PyRwLock<&'static str>) -> &'a PyRwLock<&'static str> {
    lock
}
