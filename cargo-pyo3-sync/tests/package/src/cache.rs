use std::{collections::HashMap, sync::Mutex};

use pyo3::prelude::*;

#[pyclass(frozen)]
pub struct Cache {
    entries: Mutex<HashMap<String, Py<PyAny>>>,
}

#[pymethods]
impl Cache {
    fn get(&self, py: Python<'_>, key: String, make: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let mut entries = self.entries.lock().unwrap();
        let made = make.call1((&key,))?.unbind();
        entries.insert(key, made.clone_ref(py));
        Ok(made)
    }
}
