//! Each method that lends `&mut T`, which one thread after the other may have, asks for `Send`, of both cells if there are two.
//@ error: E0277
//@ places: 10

use pyo3::Python;
use pyo3_sync::{PyProtected, critical_section::EnteredCriticalSection};

#[cfg(feature = "fail")]
pub type Data = std::rc::Rc<i32>;
#[cfg(not(feature = "fail"))]
pub type Data = std::sync::Arc<i32>;

pub fn case(
    py: Python<'_>,
    cell: &PyProtected<Data>,
    other: &PyProtected<i32>,
    entered: EnteredCriticalSection<'_, Data>,
) -> bool {
    cell.with_mut(py, |_| ());
    cell.with2_mut(py, other, |_, _| ());
    other.with2_mut(py, cell, |_, _| ());
    cell.replace(py, Data::default());
    cell.take(py);
    drop(entered.borrow_mut());
    cell.try_with_mut(py, |_| ()).is_ok()
        && cell.try_with2_mut(py, other, |_, _| ()).is_ok()
        && other.try_with2_mut(py, cell, |_, _| ()).is_ok()
        && entered.try_borrow_mut().is_ok()
}
