use pyo3::{prelude::*, sync::{GILOnceCell, MutexExt}, types::PyList};
use std::sync::Mutex;

static LIST: GILOnceCell<Py<PyList>> = GILOnceCell::new();

fn list<'py>(py: Python<'py>, lock: &Mutex<u8>) -> &'py Bound<'py, PyList> {
    let number = lock.lock_py_attached(py).unwrap();
    let made = LIST.get_or_try_init(py, || PyList::new(py, [*number]).map(Bound::unbind));
    made.unwrap().bind(py)
}
