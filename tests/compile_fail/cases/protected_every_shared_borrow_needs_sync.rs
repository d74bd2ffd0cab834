//! Each method that lends `&T`, which several threads may have at once, asks for `Sync`, of both cells if there are two.
//@ error: E0277
//@ places: 8

use pyo3::Python;
use pyo3_sync::{PyProtected, critical_section::EnteredCriticalSection};

#[cfg(feature = "fail")]
pub type Data = std::cell::Cell<i32>;
#[cfg(not(feature = "fail"))]
pub type Data = std::sync::atomic::AtomicI32;

pub fn case(
    py: Python<'_>,
    cell: &PyProtected<Data>,
    other: &PyProtected<i32>,
    entered: EnteredCriticalSection<'_, Data>,
) -> bool {
    cell.with(py, |_| ());
    cell.with2(py, other, |_, _| ());
    other.with2(py, cell, |_, _| ());
    drop(entered.borrow());
    cell.try_with(py, |_| ()).is_ok()
        && cell.try_with2(py, other, |_, _| ()).is_ok()
        && other.try_with2(py, cell, |_, _| ()).is_ok()
        && entered.try_borrow().is_ok()
}
