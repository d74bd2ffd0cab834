use pyo3::{
    prelude::*,
    types::{PyDict, PySet},
};
use pyo3_sync::critical_section::with_critical_section;

#[pyclass(frozen)]
struct Table {
    entries: Py<PyDict>,
}

#[pymethods]
impl Table {
    fn names(&self, py: Python<'_>) -> Vec<String> {
        self.entries.bind(py).iter().map(|(key, _)| key.extract().unwrap()).collect() //~ unguarded-iteration
    }
}

#[pyfunction]
fn call_all(value: &Bound<'_, PyAny>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    match value.cast::<PyDict>() {
        Ok(dict) => {
            for (key, value) in dict.iter() { //~ unguarded-iteration
                callback.call1((key, value))?;
            }
        }
        Err(_) => {}
    }
    Ok(())
}

// Python code suspends the critical section.
#[pyfunction]
fn call_all_locked(dict: &Bound<'_, PyDict>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    dict.locked_for_each(|key, value| { //~ unguarded-iteration
        callback.call1((key, value)).map(drop)
    })
}

#[pyfunction]
fn call_all_in_section(dict: &Bound<'_, PyDict>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    with_critical_section(dict.as_any(), || {
        for (key, value) in dict.iter() { //~ unguarded-iteration
            callback.call1((key, value))?;
        }
        Ok(())
    })
}

#[pyfunction]
fn each(set: &Bound<'_, PySet>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    for item in set { //~ unguarded-iteration
        callback.call1((item,))?;
    }
    Ok(())
}
