//! A guard that reads shows its lock. Were it taken for one of shorter-lived data, such could be written through that, where longer-lived
//! ones belong. The lifetime of the guard itself may shrink.
//@ error: lifetime may not live long enough

use pyo3_sync::PyRwLockReadGuard;

#[cfg(feature = "fail")]
pub fn shorten<'a>(guard: PyRwLockReadGuard<'a, &'static str>) -> PyRwLockReadGuard<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(
    guard: PyRwLockReadGuard<'b, &'static str>,
) -> PyRwLockReadGuard<'a, &'static str> {
    guard
}
