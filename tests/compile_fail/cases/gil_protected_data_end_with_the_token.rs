//! What is lent to whoever has a token, or is visited, is lent for as long.
//@ error: lifetime may not live long enough
//@ places: 2
#![allow(deprecated)]

use pyo3::{PyVisit, Python};
use pyo3_sync::compat::GILProtected;

static NUMBER: GILProtected<i32> = GILProtected::new(1);

#[cfg(feature = "fail")]
pub fn get(py: Python<'_>) -> &'static i32 {
    NUMBER.get(py)
}
#[cfg(feature = "fail")]
pub fn traverse(visit: PyVisit<'_>) -> &'static i32 {
    NUMBER.traverse(visit)
}
#[cfg(not(feature = "fail"))]
pub fn get(py: Python<'_>) -> &i32 {
    NUMBER.get(py)
}
#[cfg(not(feature = "fail"))]
pub fn traverse(visit: PyVisit<'_>) -> &i32 {
    NUMBER.traverse(visit)
}
