//! `GILProtected`, which becomes that of `pyo3_sync::compat`.

#![allow(dead_code)]

mod alone;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use pyo3::{prelude::*, sync::GILProtected, PyTraverseError, PyVisit};

static HANDLERS: GILProtected<RefCell<BTreeMap<String, Py<PyAny>>>> =
    GILProtected::new(RefCell::new(BTreeMap::new()));
static COUNT: pyo3::sync::GILProtected<Cell<usize>> = pyo3::sync::GILProtected::new(Cell::new(0));

#[pyfunction]
fn register(py: Python<'_>, name: String, handler: Py<PyAny>) -> usize {
    HANDLERS.get(py).borrow_mut().insert(name, handler);
    COUNT.get(py).replace(alone::count(py))
}

#[pyclass(frozen)]
struct Handler {
    call: GILProtected<RefCell<Option<Py<PyAny>>>>,
}

#[pymethods]
impl Handler {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let call = self.call.traverse(visit.clone());
        match &*call.borrow() {
            Some(call) => visit.call(call),
            None => Ok(()),
        }
    }
}
