//! A cell lends its data to be changed. Were it taken for one of shorter-lived data, such could be put in and
//! outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::PyProtected;

#[cfg(feature = "fail")]
pub fn shorten<'a>(lock: &'a PyProtected<&'static str>) -> &'a PyProtected<&'a str> {
    lock
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(lock: &'b PyProtected<&'static str>) -> &'a PyProtected<&'static str> {
    lock
}
