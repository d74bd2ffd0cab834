use std::{collections::HashMap, sync::Mutex};

use pyo3::prelude::*;

static VALUES: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());
static NUMBERS: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

#[pyfunction]
fn set(value: Py<PyAny>) {
    let mut values = VALUES.lock().unwrap();
    let old = values.pop();
    values.push(value);
    drop(values);
    drop(old);
    *NUMBERS.lock().unwrap() = None;
}
