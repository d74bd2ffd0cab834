//! What an import gives to the collector is for the length of the visit, whatever it is: the reference must not
//! leave the visit.
//@ error: lifetime may not live long enough

use pyo3::{Py, PyAny, PyVisit};
use pyo3_sync::PyImport;

static PATH: PyImport = PyImport::new("sys", "path");

#[cfg(feature = "fail")]
pub fn case(visit: &PyVisit<'_>) -> Option<&'static Py<PyAny>> {
    PATH.traverse(visit)
}
#[cfg(not(feature = "fail"))]
pub fn case<'visit>(visit: &'visit PyVisit<'_>) -> Option<&'visit Py<PyAny>> {
    PATH.traverse(visit)
}
