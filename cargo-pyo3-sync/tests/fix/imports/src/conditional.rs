use pyo3::prelude::*;

#[cfg(target_pointer_width = "64")]
use pyo3::sync::{GILOnceCell, MutexExt};
#[cfg(not(target_pointer_width = "64"))]
#[allow(unused_imports)]
use pyo3::sync::{GILOnceCell, OnceExt};

static A: GILOnceCell<u8> = GILOnceCell::new();

#[cfg(target_pointer_width = "64")]
fn a(py: Python<'_>, lock: &std::sync::Mutex<u8>) -> u8 {
    *A.get_or_init(py, || *lock.lock_py_attached(py).unwrap())
}
