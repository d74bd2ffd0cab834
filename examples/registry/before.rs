//! A table of handlers in a static variable, as `GILProtected<RefCell<_>>` held it, or, since PyO3 has removed that, a wrapper of one's
//! own that is shared by force.
//!
//! A `RefCell` counts its borrows with plain loads and stores. On free-threaded Python two threads count at once: undefined
//! behaviour. And with or without a GIL, `call` keeps the table borrowed while a handler runs, which may be long.

use std::{cell::RefCell, collections::BTreeMap};

use pyo3::{exceptions::PyKeyError, prelude::*};

struct Shared<T>(RefCell<T>);

// SAFETY: only functions that hold the GIL use it. (Which was true, and on free-threaded Python says nothing.)
unsafe impl<T: Send> Sync for Shared<T> {}

static HANDLERS: Shared<BTreeMap<String, Py<PyAny>>> = Shared(RefCell::new(BTreeMap::new()));

#[pyfunction]
fn register(name: String, handler: Py<PyAny>) {
    HANDLERS.0.borrow_mut().insert(name, handler);
}

#[pyfunction]
fn unregister(name: &str) {
    HANDLERS.0.borrow_mut().remove(name);
}

#[pyfunction]
fn call(py: Python<'_>, name: &str, argument: Py<PyAny>) -> PyResult<Py<PyAny>> {
    match HANDLERS.0.borrow().get(name) {
        Some(handler) => handler.call1(py, (argument,)),
        None => Err(PyKeyError::new_err(name.to_owned())),
    }
}

#[pyfunction]
fn names() -> Vec<String> {
    HANDLERS.0.borrow().keys().cloned().collect()
}

#[pymodule(gil_used = false)]
mod registry_before {
    #[pymodule_export]
    use super::{call, names, register, unregister};
}
