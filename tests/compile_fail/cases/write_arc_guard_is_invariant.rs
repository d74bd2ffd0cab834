//! A guard that owns a reference to its lock lets the data be changed. Were it taken for one of shorter-lived data, such could be written to
//! where longer-lived ones belong. The lifetime of the guard itself may shrink.
//@ error: lifetime may not live long enough

use pyo3_sync::ArcPyRwLockWriteGuard;

#[cfg(feature = "fail")]
pub fn shorten<'a>(
    guard: ArcPyRwLockWriteGuard<'a, &'static str>,
) -> ArcPyRwLockWriteGuard<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(
    guard: ArcPyRwLockWriteGuard<'b, &'static str>,
) -> ArcPyRwLockWriteGuard<'a, &'static str> {
    guard
}
