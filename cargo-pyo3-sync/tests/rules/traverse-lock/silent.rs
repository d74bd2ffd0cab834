use std::collections::HashMap;

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use pyo3_sync::PyMutex;

#[pyclass(frozen)]
struct Cache {
    entries: PyMutex<HashMap<String, Py<PyAny>>>,
}

#[pymethods]
impl Cache {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.entries.traverse(&visit) {
            Some(entries) => entries.values().try_for_each(|value| visit.call(value)),
            None => Ok(()),
        }
    }
}
