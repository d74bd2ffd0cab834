//! An entered section lends its data to be changed. Were it taken for one of shorter-lived data, such could be put in and outlived.
//@ error: lifetime may not live long enough

use pyo3_sync::critical_section::EnteredCriticalSection;

#[cfg(feature = "fail")]
pub fn shorten<'a>(
    guard: EnteredCriticalSection<'a, &'static str>,
) -> EnteredCriticalSection<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(
    guard: EnteredCriticalSection<'b, &'static str>,
) -> EnteredCriticalSection<'a, &'static str> {
    guard
}
