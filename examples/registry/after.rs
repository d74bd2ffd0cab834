//! The table of handlers in a [`PyProtected`]: reached in a critical section of its own where there is no GIL, and by the GIL where there is
//! one. Handlers run, and old ones are dropped, when nothing is borrowed.

use std::collections::BTreeMap;

use pyo3::{exceptions::PyKeyError, prelude::*};
use pyo3_sync::PyProtected;

static HANDLERS: PyProtected<BTreeMap<String, Py<PyAny>>> = PyProtected::new(BTreeMap::new());

#[pyfunction]
fn register(py: Python<'_>, name: String, handler: Py<PyAny>) {
    let old = HANDLERS.with_mut(py, |handlers| handlers.insert(name, handler));
    drop(old); // Here, because a `__del__` may come back to this table.
}

#[pyfunction]
fn unregister(py: Python<'_>, name: &str) {
    let old = HANDLERS.with_mut(py, |handlers| handlers.remove(name));
    drop(old);
}

#[pyfunction]
fn call(py: Python<'_>, name: &str, argument: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let handler = HANDLERS.with(py, |handlers| {
        handlers.get(name).map(|handler| handler.clone_ref(py))
    });
    match handler {
        Some(handler) => handler.call1(py, (argument,)),
        None => Err(PyKeyError::new_err(name.to_owned())),
    }
}

#[pyfunction]
fn names(py: Python<'_>) -> Vec<String> {
    HANDLERS.with(py, |handlers| handlers.keys().cloned().collect())
}

#[pymodule(gil_used = false)]
fn registry_after(module: &Bound<'_, PyModule>) -> PyResult<()> {
    pyo3_sync::ensure_single_interpreter(module)?; // There is one table in the process.
    module.add_function(wrap_pyfunction!(register, module)?)?;
    module.add_function(wrap_pyfunction!(unregister, module)?)?;
    module.add_function(wrap_pyfunction!(call, module)?)?;
    module.add_function(wrap_pyfunction!(names, module)?)
}
