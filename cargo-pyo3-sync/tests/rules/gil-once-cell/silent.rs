use pyo3::{prelude::*, types::PyType};
use pyo3_sync::PyOnceLock;

static FRACTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();

mod of_their_own {
    pub struct Cell<T>(T);
}

static OTHER: pyo3_sync::compat::GILOnceCell<Py<PyType>> = pyo3_sync::compat::GILOnceCell::new();
