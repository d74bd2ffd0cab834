//! A shared borrow may be had by several threads at once, and so needs `Sync`.
//@ error: E0277

use std::cell::Cell;

use pyo3::Python;
use pyo3_sync::{PyProtected, critical_section::with_critical_section_mutex};

pub fn case(py: Python<'_>, cell: &PyProtected<Cell<i32>>) -> i32 {
    with_critical_section_mutex(py, cell, |entered| {
        #[cfg(feature = "fail")]
        let guard = entered.borrow();
        #[cfg(not(feature = "fail"))]
        let guard = entered.borrow_mut();
        guard.get()
    })
}
