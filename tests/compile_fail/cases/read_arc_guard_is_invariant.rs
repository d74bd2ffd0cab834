//! A guard that reads gives back its lock. Were it taken for one of shorter-lived data, such could be written through that, where
//! longer-lived ones belong. The lifetime of the guard itself may shrink.
//@ error: lifetime may not live long enough

use pyo3_sync::ArcPyRwLockReadGuard;

#[cfg(feature = "fail")]
pub fn shorten<'a>(
    guard: ArcPyRwLockReadGuard<'a, &'static str>,
) -> ArcPyRwLockReadGuard<'a, &'a str> {
    guard
}
#[cfg(not(feature = "fail"))]
pub fn shorten<'a, 'b: 'a>(
    guard: ArcPyRwLockReadGuard<'b, &'static str>,
) -> ArcPyRwLockReadGuard<'a, &'static str> {
    guard
}
