//! A borrow lends data to be changed. Were it taken for one of shorter-lived data, such could be put in and outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::critical_section::ProtectedRefMut;

#[cfg(feature = "fail")]
pub fn shorten<'a>(guard: ProtectedRefMut<'a, &'static str>) -> ProtectedRefMut<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a>(guard: ProtectedRefMut<'a, &'static str>) -> ProtectedRefMut<'a, &'static str> {
    guard
}
