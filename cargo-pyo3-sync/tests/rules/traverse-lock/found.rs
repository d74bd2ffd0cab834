use std::{collections::HashMap, sync::Mutex};

use pyo3::{PyTraverseError, PyVisit, prelude::*};

#[pyclass(frozen)]
struct Cache {
    entries: Mutex<HashMap<String, Py<PyAny>>>,
}

#[pymethods]
impl Cache {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entries.lock().unwrap().values().try_for_each(|value| visit.call(value)) //~ traverse-lock
    }
}

#[pyclass(frozen)]
struct Other {
    entries: Mutex<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Other {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(entries) = self.entries.try_lock() { //~ traverse-lock
            entries.iter().try_for_each(|value| visit.call(value))?;
        }
        Ok(())
    }
}

struct Slots(Vec<Mutex<Option<Py<PyAny>>>>);

impl Slots {
    fn visit_all(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in &self.0 {
            if let Some(object) = slot.lock().unwrap().as_ref() { //~ traverse-lock
                visit.call(object)?;
            }
        }
        Ok(())
    }
}

#[pyclass(frozen)]
struct Table {
    slots: Slots,
}

#[pymethods]
impl Table {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.slots.visit_all(&visit)
    }
}

#[pyclass(frozen)]
struct View {
    slots: Slots,
}

#[pymethods]
impl View {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.slots.visit_all(&visit)
    }
}
