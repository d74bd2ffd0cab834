use std::{collections::HashMap, sync::Mutex};

use pyo3::prelude::*;

static VALUES: Mutex<Option<HashMap<String, Py<PyAny>>>> = Mutex::new(None);
static LAST: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

#[pyfunction]
fn set(value: Py<PyAny>) {
    let mut last = LAST.lock().unwrap();
    *last = Some(value); //~ drop-under-lock
}
