//! The settings in a [`PyRwLock`]: readers do not disturb each other, and whoever waits lets go of the interpreter. `describe` copies
//! what it needs and formats when nothing is locked, so that its callback may do as it likes.

use std::collections::BTreeMap;

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use pyo3_sync::PyRwLock;

type Values = BTreeMap<String, Py<PyAny>>;

#[pyclass(frozen)]
struct Settings(PyRwLock<Values>);

#[pymethods]
impl Settings {
    #[new]
    fn new() -> Self {
        Settings(PyRwLock::default())
    }

    fn get(&self, py: Python<'_>, name: &str) -> PyResult<Option<Py<PyAny>>> {
        let settings = self.0.read_checked(py)?;
        Ok(settings.get(name).map(|value| value.clone_ref(py)))
    }

    fn set(&self, py: Python<'_>, name: String, value: Py<PyAny>) -> PyResult<()> {
        let old = self.0.write_checked(py)?.insert(name, value);
        drop(old); // The lock is free again: a `__del__` may come back here.
        Ok(())
    }

    /// A line for each setting, made by `format(name, value)`.
    fn describe(&self, py: Python<'_>, format: Bound<'_, PyAny>) -> PyResult<Vec<String>> {
        let settings: Vec<_> = {
            let settings = self.0.read_checked(py)?;
            let copies = settings.iter();
            copies
                .map(|(name, value)| (name.clone(), value.clone_ref(py)))
                .collect()
        };
        let lines = settings
            .into_iter()
            .map(|setting| format.call1(setting)?.extract());
        lines.collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let settings = self.0.traverse(&visit);
        let mut values = settings.iter().flat_map(|settings| settings.values());
        values.try_for_each(|value| visit.call(value))
    }

    fn __clear__(&self, py: Python<'_>) {
        let settings = std::mem::take(&mut *self.0.write(py));
        drop(settings);
    }
}

#[pymodule(gil_used = false)]
mod settings_after {
    #[pymodule_export]
    use super::Settings;
}
