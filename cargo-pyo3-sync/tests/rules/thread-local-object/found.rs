use std::cell::RefCell;

use pyo3::prelude::*;

struct Entry {
    value: Py<PyAny>,
}

thread_local! {
    static CURRENT: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) }; //~ thread-local-object
    static ENTRIES: RefCell<Vec<Entry>> = RefCell::new(Vec::new()); //~ thread-local-object
}

fn set_current(object: Py<PyAny>) {
    CURRENT.with(|current| *current.borrow_mut() = Some(object));
}

fn current(py: Python<'_>) -> Option<Py<PyAny>> {
    CURRENT.with(|current| current.borrow().as_ref().map(|object| object.clone_ref(py)))
}

fn forget() {
    CURRENT.with(|current| current.borrow_mut().take());
    ENTRIES.with(|entries| entries.borrow_mut().clear());
}
