//! Settings that all threads read, behind the read-write lock of the standard library, which attached threads wait for without letting
//! go of the interpreter.
//!
//! `describe` calls into Python while it reads. With a GIL that lets another thread run, which asks to write and waits, and has the
//! GIL; without one, whatever stops the world waits for that thread. And a callback that writes waits for its own caller.

use std::{collections::BTreeMap, sync::RwLock};

use pyo3::prelude::*;

#[pyclass(frozen)]
struct Settings(RwLock<BTreeMap<String, Py<PyAny>>>);

#[pymethods]
impl Settings {
    #[new]
    fn new() -> Self {
        Settings(RwLock::default())
    }

    fn get(&self, py: Python<'_>, name: &str) -> Option<Py<PyAny>> {
        let settings = self.0.read().expect("nothing panics under this lock");
        settings.get(name).map(|value| value.clone_ref(py))
    }

    fn set(&self, name: String, value: Py<PyAny>) {
        let mut settings = self.0.write().expect("nothing panics under this lock");
        settings.insert(name, value);
    }

    /// A line for each setting, made by `format(name, value)`.
    fn describe(&self, format: Bound<'_, PyAny>) -> PyResult<Vec<String>> {
        let settings = self.0.read().expect("nothing panics under this lock");
        let lines = settings
            .iter()
            .map(|(name, value)| format.call1((name, value))?.extract());
        lines.collect()
    }
}

#[pymodule(gil_used = false)]
mod settings_before {
    #[pymodule_export]
    use super::Settings;
}
