use pyo3::prelude::*;
use pyo3::sync::*;

static A: GILOnceCell<u8> = GILOnceCell::new();

fn a(py: Python<'_>, lock: &std::sync::Mutex<u8>) -> u8 {
    *A.get_or_init(py, || *lock.lock_py_attached(py).unwrap())
}
