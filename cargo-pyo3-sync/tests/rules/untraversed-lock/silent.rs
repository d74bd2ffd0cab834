use std::{collections::HashMap, sync::Mutex};

use pyo3::{prelude::*, types::PyString};

#[pyclass(frozen)]
struct Cache {
    numbers: Mutex<HashMap<String, u64>>,
    // A string leads to nothing.
    names: Mutex<Vec<Py<PyString>>>,
}

struct NotAClass {
    entries: Mutex<Vec<Py<PyAny>>>,
}
