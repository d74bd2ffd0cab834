//! What the collector is shown of a state it is shown for the length of the visit.
//@ error: E0521

use std::sync::Mutex;

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use pyo3_sync::{ModuleData, PyMutex};

pub struct Numbers(PyMutex<Vec<Py<PyAny>>>);

static STORED: Mutex<Option<&'static Vec<Py<PyAny>>>> = Mutex::new(None);

impl ModuleData for Numbers {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let numbers = self.0.traverse(visit);
        #[cfg(not(feature = "fail"))]
        let numbers = numbers.and(None);
        *STORED.lock().unwrap() = numbers;
        Ok(())
    }
}
