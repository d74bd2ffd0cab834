//! A small extension that relies on the GIL in several ways.

mod cache;

use std::collections::HashMap;

use pyo3::{prelude::*, sync::GILOnceCell, types::PyType};

static FRACTION: GILOnceCell<Py<PyType>> = GILOnceCell::new();

/// Never borrowed mutably.
#[pyclass]
struct Price {
    cents: u64,
}

#[pymethods]
impl Price {
    fn half<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        FRACTION.import(py, "fractions", "Fraction")?.call1((self.cents, 2))
    }
}

#[pymodule]
fn shop(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Price>()?;
    module.add_class::<cache::Cache>()
}
