//! A mapped guard lets the data be changed. Were it taken for one of shorter-lived data, such could be written to
//! where longer-lived ones belong (pyo3#6073). The lifetime of the guard itself may shrink.
//@ error: lifetime may not live long enough

use pyo3_sync::MappedPyRwLockWriteGuard;

#[cfg(feature = "fail")]
pub fn shorten<'a>(
    guard: MappedPyRwLockWriteGuard<'a, &'static str>,
) -> MappedPyRwLockWriteGuard<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(
    guard: MappedPyRwLockWriteGuard<'b, &'static str>,
) -> MappedPyRwLockWriteGuard<'a, &'static str> {
    guard
}
