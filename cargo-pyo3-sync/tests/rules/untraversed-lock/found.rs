use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use pyo3::prelude::*;

struct Entry {
    value: Py<PyAny>,
}

#[pyclass(frozen)]
struct Cache {
    entries: Mutex<HashMap<String, Py<PyAny>>>, //~ untraversed-lock
    more: Arc<Mutex<Vec<Entry>>>,
}
