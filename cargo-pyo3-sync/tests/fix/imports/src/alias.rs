use pyo3::sync::GILOnceCell as Cell;
use pyo3::{prelude::*, sync::{GILOnceCell as Other, MutexExt}};

static FIRST: Cell<u8> = Cell::new();
static SECOND: Other<u8> = Other::new();

fn first(py: Python<'_>, lock: &std::sync::Mutex<u8>) -> u8 {
    *FIRST.get_or_init(py, || 1) + *SECOND.get_or_init(py, || 2) + *lock.lock_py_attached(py).unwrap()
}
