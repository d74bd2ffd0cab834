use std::sync::Mutex;

use pyo3::prelude::*;

static COUNT: Mutex<u64> = Mutex::new(0);

#[pyfunction]
fn count() -> u64 {
    *COUNT.lock().unwrap() //~ attached-lock
}
