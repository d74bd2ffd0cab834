//! What was imported is looked at whether it is of the type that is asked for, which it can be only of a type of Python's.
//@ error: E0599
//@ places: 3

use pyo3::prelude::*;
use pyo3_sync::{PyImport, PyOnceLock, compat::GILOnceCell};

#[cfg(feature = "fail")]
pub type Object = i32;
#[cfg(not(feature = "fail"))]
pub type Object = PyAny;

pub fn case(
    py: Python<'_>,
    once_lock: &PyOnceLock<Py<Object>>,
    gil_once_cell: &GILOnceCell<Py<Object>>,
    import: &PyImport<Object>,
) -> bool {
    let is_there = once_lock.import(py, "sys", "path").is_ok();
    let is_there_too = gil_once_cell.import(py, "sys", "path").is_ok();
    is_there && is_there_too && import.get(py).is_ok()
}
