//! The end of a borrow changes the flag of the cell, which only an attached thread may do. The data can be lent.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::{PyProtected, critical_section::with_critical_section_mutex};

pub fn case(py: Python<'_>, cell: &PyProtected<i32>) {
    with_critical_section_mutex(py, cell, |entered| {
        let mut guard = entered.borrow_mut();
        #[cfg(feature = "fail")]
        py.detach(move || *guard += 1);
        #[cfg(not(feature = "fail"))]
        {
            let data = &mut *guard;
            py.detach(move || *data += 1);
        }
    });
}
