//! What an import gives to the collector is for the length of the visit, whatever it is: the reference must not be
//! kept in the object that is visited.
//@ error: lifetime may not live long enough

use std::cell::Cell;

use pyo3::{Py, PyAny, PyVisit};
use pyo3_sync::PyImport;

pub struct Object<'a> {
    pub import: &'a PyImport,
    pub seen: Cell<Option<&'a Py<PyAny>>>,
}

impl Object<'_> {
    pub fn traverse(&self, visit: &PyVisit<'_>) {
        let visited = self.import.traverse(visit);
        #[cfg(feature = "fail")]
        self.seen.set(visited);
        #[cfg(not(feature = "fail"))]
        self.seen.set(visited.and(None));
    }
}
