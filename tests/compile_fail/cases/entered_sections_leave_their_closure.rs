//! What is entered is left when the closure returns, if there are two as well.
//@ error: lifetime may not live long enough
//@ places: 2

use pyo3::Python;
use pyo3_sync::{PyProtected, critical_section::with_critical_section_mutex2};

pub fn case(py: Python<'_>, one: &PyProtected<i32>, two: &PyProtected<i32>) {
    #[cfg(feature = "fail")]
    {
        let _ = with_critical_section_mutex2(py, one, two, |entered, _| entered);
        let _ = with_critical_section_mutex2(py, one, two, |_, entered| entered);
    }
    #[cfg(not(feature = "fail"))]
    {
        let _ =
            with_critical_section_mutex2(py, one, two, |entered, _| entered.try_borrow().is_ok());
        let _ = with_critical_section_mutex2(py, one, two, |_, entered| entered.is_some());
    }
}
