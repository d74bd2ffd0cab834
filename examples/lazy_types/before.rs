//! A class and a table that are fetched from Python when they are first needed, in cells that make others wait.
//!
//! `price` used a `GILOnceCell`, and uses the cell that PyO3 has now. `shop`, the module that it imports, calls it at its top level; the
//! old cell could be entered again, the new one waits for itself. `discount` uses the cell of the standard library: a
//! thread that waits for it stays attached, and what the initialiser needs in order to go on is that it lets go.

use std::sync::OnceLock;

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyType},
};

#[pyfunction]
fn price(py: Python<'_>, amount: i64) -> PyResult<Bound<'_, PyAny>> {
    static PRICE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    PRICE.import(py, "shop", "Price")?.call1((amount,))
}

#[pyfunction]
fn discount(py: Python<'_>, customer: &str) -> PyResult<i64> {
    static DISCOUNTS: OnceLock<Py<PyDict>> = OnceLock::new();
    let table = DISCOUNTS.get_or_init(|| load(py).expect("the table can be loaded"));
    let percent = table.bind(py).get_item(customer)?;
    percent.map_or(Ok(0), |percent| percent.extract())
}

fn load(py: Python<'_>) -> PyResult<Py<PyDict>> {
    let table = py.import("discounts")?.call_method0("load")?;
    Ok(table.cast_into()?.unbind())
}

#[pymodule(gil_used = false)]
mod lazy_types_before {
    #[pymodule_export]
    use super::{discount, price};
}
