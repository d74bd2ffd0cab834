//! A section is entered, and its data borrowed, by an attached thread.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::{PyProtected, critical_section::with_critical_section_mutex};

pub fn case(py: Python<'_>, cell: &PyProtected<i32>) -> bool {
    with_critical_section_mutex(py, cell, |entered| {
        #[cfg(feature = "fail")]
        return py.detach(|| entered.try_borrow().is_ok());
        #[cfg(not(feature = "fail"))]
        return entered.try_borrow().is_ok();
    })
}
