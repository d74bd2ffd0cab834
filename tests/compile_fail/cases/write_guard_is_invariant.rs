//! A guard lets the data be changed. Were it taken for one of shorter-lived data, such could be written to where
//! longer-lived ones belong. The lifetime of the guard itself may shrink.
//@ error: lifetime may not live long enough

use pyo3_sync::PyRwLockWriteGuard;

#[cfg(feature = "fail")]
pub fn shorten<'a>(guard: PyRwLockWriteGuard<'a, &'static str>) -> PyRwLockWriteGuard<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(
    guard: PyRwLockWriteGuard<'b, &'static str>,
) -> PyRwLockWriteGuard<'a, &'static str> {
    guard
}
