//@ pyo3 0.28.0
use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn extension(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}

#[pymodule]
#[pyo3(name = "other", gil_used = true)]
fn second(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
