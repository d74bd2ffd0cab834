use pyo3::{
    prelude::*,
    types::{PyDict, PySet},
};

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

#[pyfunction]
fn each(set: &Bound<'_, PySet>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    for item in set { //~ unguarded-iteration
        callback.call1((item,))?;
    }
    Ok(())
}
