//! The class in a [`PyImport`], which holds nothing while it imports, and the table in a [`PyOnceLock`], whose waiters let go of
//! the interpreter.

use pyo3::{
    prelude::*,
    types::{PyDict, PyType},
};
use pyo3_sync::{PyImport, PyOnceLock};

#[pyfunction]
fn price(py: Python<'_>, amount: i64) -> PyResult<Bound<'_, PyAny>> {
    static PRICE: PyImport<PyType> = PyImport::new("shop", "Price");
    PRICE.get(py)?.call1((amount,))
}

#[pyfunction]
fn discount(py: Python<'_>, customer: &str) -> PyResult<i64> {
    static DISCOUNTS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    // A table that cannot be loaded is an exception now, and the next call tries again.
    let table = DISCOUNTS.get_or_try_init_py(py, || load(py))?;
    let percent = table.bind(py).get_item(customer)?;
    percent.map_or(Ok(0), |percent| percent.extract())
}

fn load(py: Python<'_>) -> PyResult<Py<PyDict>> {
    let table = py.import("discounts")?.call_method0("load")?;
    Ok(table.cast_into()?.unbind())
}

#[pymodule(gil_used = false)]
fn lazy_types_after(module: &Bound<'_, PyModule>) -> PyResult<()> {
    pyo3_sync::ensure_single_interpreter(module)?; // The cells serve one interpreter.
    module.add_function(wrap_pyfunction!(price, module)?)?;
    module.add_function(wrap_pyfunction!(discount, module)?)
}
