//! A cell can be filled through a shared reference. Were it taken for one of shorter-lived values, one could be put
//! in and outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::compat::GILOnceCell;

#[cfg(feature = "fail")]
pub fn shorten<'a>(lock: &'a GILOnceCell<&'static str>) -> &'a GILOnceCell<&'a str> {
    lock
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(lock: &'b GILOnceCell<&'static str>) -> &'a GILOnceCell<&'static str> {
    lock
}
