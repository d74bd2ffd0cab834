use std::cell::RefCell;

use pyo3::prelude::*;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn path_type(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // Each thread looks it up once.
    thread_local! {
        static PATH: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
    }
    PATH.with_borrow_mut(|path| {
        if path.is_none() {
            *path = Some(py.import("pathlib")?.getattr("Path")?.unbind());
        }
        Ok(path.as_ref().unwrap().clone_ref(py))
    })
}
