//! What is entered is left when the closure returns.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::{PyProtected, critical_section::with_critical_section_mutex};

pub fn case(py: Python<'_>, cell: &PyProtected<i32>) -> bool {
    #[cfg(feature = "fail")]
    return with_critical_section_mutex(py, cell, |entered| entered)
        .try_borrow()
        .is_ok();
    #[cfg(not(feature = "fail"))]
    return with_critical_section_mutex(py, cell, |entered| entered.try_borrow().is_ok());
}
