use pyo3::prelude::*;
use pyo3_sync::PyProtected;

static NAMES: PyProtected<Vec<String>> = PyProtected::new(Vec::new());

#[pyfunction]
fn register(py: Python<'_>, name: String) {
    NAMES.with_mut(py, |names| names.push(name));
}
