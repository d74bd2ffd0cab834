//! What an import gives to the collector is for the length of the visit, whatever it is: the reference ends with
//! the visit.
//@ error: E0597

use pyo3::PyVisit;
use pyo3_sync::PyImport;

pub fn case<'a>(import: &'a PyImport, visit: PyVisit<'a>) -> Option<*mut ()> {
    let visited;
    {
        #[cfg(feature = "fail")]
        let visit = visit;
        visited = import.traverse(&visit);
    }
    visited.map(|object| object.as_ptr().cast())
}
