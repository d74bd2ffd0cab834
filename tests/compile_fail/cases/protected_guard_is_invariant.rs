//! A borrow lends data to be changed. Were it taken for one of shorter-lived data, such could be put in and outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::critical_section::ProtectedRefMut;

#[cfg(feature = "fail")]
pub fn shorten<'a, 'b>(
    guard: ProtectedRefMut<'b, &'static str>,
    _: &'a str,
) -> ProtectedRefMut<'b, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b>(
    guard: ProtectedRefMut<'b, &'static str>,
    _: &'a str,
) -> ProtectedRefMut<'b, &'static str> {
    guard
}
