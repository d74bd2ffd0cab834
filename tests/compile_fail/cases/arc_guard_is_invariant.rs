//! A guard that owns a reference to its mutex lets the data be changed. Were it taken for one of shorter-lived data,
//! such could be written to where longer-lived ones belong. The lifetime of the guard itself may shrink.
//@ error: lifetime may not live long enough

use pyo3_sync::ArcPyMutexGuard;

#[cfg(feature = "fail")]
pub fn shorten<'a>(guard: ArcPyMutexGuard<'a, &'static str>) -> ArcPyMutexGuard<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(
    guard: ArcPyMutexGuard<'b, &'static str>,
) -> ArcPyMutexGuard<'a, &'static str> {
    guard
}
