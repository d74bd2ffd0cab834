use std::cell::RefCell;

use pyo3::prelude::*;

struct Entry {
    value: Py<PyAny>,
}

thread_local! {
    static CURRENT: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) }; //~ thread-local-object
    static ENTRIES: RefCell<Vec<Entry>> = RefCell::new(Vec::new()); //~ thread-local-object
}
