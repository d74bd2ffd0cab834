// `__traverse__` is not called while the object is borrowed mutably; and a thread is not stopped where it runs no Python code.

use std::sync::{Arc, Mutex, RwLock};

use pyo3::{PyTraverseError, PyVisit, prelude::*};

#[pyclass]
struct Exclusive { //~ pyclass-mut-self
    entries: Mutex<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Exclusive {
    fn push(&mut self, object: Py<PyAny>) {
        self.entries.lock().unwrap().push(object);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entries.lock().unwrap().iter().try_for_each(|object| visit.call(object))
    }
}

fn shrink(entries: &mut Vec<Py<PyAny>>) {
    entries.shrink_to_fit();
}

#[pyclass(frozen)]
struct Brief {
    entries: RwLock<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Brief {
    fn shrink(&self) {
        shrink(&mut self.entries.write().unwrap());
    }

    fn first(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.entries.read().unwrap().first().map(|object| object.clone_ref(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entries.read().unwrap().iter().try_for_each(|object| visit.call(object))
    }
}

#[pyclass(frozen)]
struct Cleared {
    entries: RwLock<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Cleared {
    // What is dropped may run `__del__`.
    fn clear(&self) {
        self.entries.write().unwrap().clear();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entries.read().unwrap().iter().try_for_each(|object| visit.call(object)) //~ traverse-lock
    }
}

// All threads that take it are stopped with it: it is taken in all passes, or in none.
#[pyclass(frozen)]
struct Tried {
    entries: Mutex<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Tried {
    fn push(&self, py: Python<'_>, object: Py<PyAny>) {
        self.entries.lock().unwrap().push(object.clone_ref(py));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.entries.try_lock() {
            Ok(entries) => entries.iter().try_for_each(|object| visit.call(object)),
            Err(_) => Ok(()),
        }
    }
}

#[pyclass(frozen)]
struct Detached {
    entries: Mutex<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Detached {
    fn push(&self, py: Python<'_>, object: Py<PyAny>) {
        py.detach(|| self.entries.lock().unwrap().push(object));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.entries.try_lock() { //~ traverse-lock
            Ok(entries) => entries.iter().try_for_each(|object| visit.call(object)),
            Err(_) => Ok(()),
        }
    }
}

// Others have the `Arc`.
#[pyclass]
struct Node { //~ pyclass-mut-self
    entries: Arc<Mutex<Vec<Py<PyAny>>>>,
}

#[pymethods]
impl Node {
    fn push(&mut self, object: Py<PyAny>) {
        self.entries.lock().unwrap().push(object);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entries.lock().unwrap().iter().try_for_each(|object| visit.call(object)) //~ traverse-lock
    }
}
