use std::sync::{LazyLock, OnceLock};

use once_cell::sync::{Lazy, OnceCell};
use pyo3::{
    prelude::*,
    types::{PyDict, PyModule},
};

static JSON: LazyLock<Py<PyModule>> =
    LazyLock::new(|| Python::attach(|py| py.import("json").unwrap().unbind())); //~ lazy-touches-python

static PATHS: Lazy<Vec<String>> = Lazy::new(load_paths); //~ lazy-touches-python

lazy_static! {
    static ref VERSION: String = Python::with_gil(|py| py.version().to_owned()); //~ lazy-touches-python
}

fn load_paths() -> Vec<String> {
    Python::attach(|py| py.import("sys").unwrap().getattr("path").unwrap().extract().unwrap())
}

static LOOP: OnceCell<Py<PyAny>> = OnceCell::new();

fn get_running_loop(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let found = LOOP
        .get_or_try_init(|| -> PyResult<Py<PyAny>> { //~ lazy-touches-python
            Ok(py.import("asyncio")?.getattr("get_running_loop")?.unbind())
        })?;
    Ok(found.bind(py))
}

#[pyfunction]
fn discount(py: Python<'_>) -> PyResult<i64> {
    static TABLE: OnceLock<Py<PyDict>> = OnceLock::new();
    let table = TABLE.get_or_init(|| load(py)); //~ lazy-touches-python
    table.bind(py).len();
    Ok(1)
}

fn load(py: Python<'_>) -> Py<PyDict> {
    PyDict::new(py).unbind()
}
