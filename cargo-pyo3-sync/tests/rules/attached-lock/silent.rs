use std::sync::Mutex;

use pyo3::{prelude::*, sync::MutexExt};

static COUNT: Mutex<u64> = Mutex::new(0);

#[pyfunction]
fn count(py: Python<'_>) -> u64 {
    py.detach(|| *COUNT.lock().unwrap()) + *COUNT.lock_py_attached(py).unwrap()
}

fn worker() -> u64 {
    *COUNT.lock().unwrap()
}
