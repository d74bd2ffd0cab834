//! Were a snapshot taken for one of shorter-lived values, such could be stored and outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::PySnapshot;

#[cfg(feature = "fail")]
pub fn shorten<'a>(lock: &'a PySnapshot<&'static str>) -> &'a PySnapshot<&'a str> {
    lock
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(lock: &'b PySnapshot<&'static str>) -> &'a PySnapshot<&'static str> {
    lock
}
