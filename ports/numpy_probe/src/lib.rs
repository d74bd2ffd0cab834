//! Uses everything that the crate `numpy` keeps in cells and behind locks: NumPy's two tables of
//! functions, the name of their module, its version, the table of borrows, the function `asarray`,
//! and the types of dates and strings.

use numpy::{
    AllowTypeChange, Element, PyArray1, PyArrayLike1, PyArrayMethods, PyFixedString,
    datetime::{Datetime, units},
};
use pyo3::prelude::*;

/// Adds up the numbers of anything that NumPy converts to an array.
#[pyfunction]
fn total(py: Python<'_>, numbers: PyArrayLike1<'_, f64, AllowTypeChange>) -> PyResult<f64> {
    let sum = PyArray1::<f64>::zeros(py, 1, false);
    let mut place = sum.try_readwrite()?;
    for number in numbers.as_array() {
        *place.get_mut(0).expect("it has one element") += number;
    }
    drop(place);
    Ok(sum.readonly().as_slice()?[0])
}

/// The names of types that are made when first needed.
#[pyfunction]
fn types(py: Python<'_>) -> [String; 2] {
    [
        Datetime::<units::Days>::get_dtype(py).to_string(),
        PyFixedString::<4>::get_dtype(py).to_string(),
    ]
}

#[pymodule(gil_used = false)]
fn numpy_probe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(total, module)?)?;
    module.add_function(wrap_pyfunction!(types, module)?)
}
