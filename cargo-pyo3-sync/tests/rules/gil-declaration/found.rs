//@ pyo3 0.27.0
use pyo3::prelude::*;

#[pymodule]
fn extension(module: &Bound<'_, PyModule>) -> PyResult<()> { //~ gil-declaration
    module.add_wrapped(wrap_pymodule!(inner))
}

#[pymodule]
fn inner(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
