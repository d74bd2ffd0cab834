use std::{
    cell::OnceCell,
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use pyo3::{prelude::*, types::PyDict};
use pyo3_sync::{PyLazy, PyOnceLock};

static TABLE: LazyLock<HashMap<&str, u32>> = LazyLock::new(|| HashMap::from([("one", 1)]));
static OURS: PyLazy<Py<PyDict>> = PyLazy::new(|py| PyDict::new(py).unbind());

// Threads race, and nobody waits.
static RACE: once_cell::race::OnceBox<Py<PyDict>> = once_cell::race::OnceBox::new();

fn race(py: Python<'_>) -> &Py<PyDict> {
    RACE.get_or_init(|| Box::new(PyDict::new(py).unbind()))
}

#[pyfunction]
fn name(py: Python<'_>, number: u64) -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    static CELL: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    CELL.get_or_init(py, || PyDict::new(py).unbind());
    let local = OnceCell::new();
    local.get_or_init(|| PyDict::new(py).unbind());
    NAME.get_or_init(|| format!("name {}", 1)).clone()
}
