use std::cell::RefCell;

use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};
use pyo3_sync::critical_section::with_critical_section;

#[pyfunction]
#[pyo3(signature = (list, **kwargs))]
fn collect(py: Python<'_>, list: &Bound<'_, PyList>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<usize> {
    let made = PyDict::new(py);
    made.set_item("a", 1)?;
    for (key, value) in made.iter() {
        key.getattr("b")?.call1((value,))?;
    }
    if let Some(kwargs) = kwargs {
        for (key, value) in kwargs.iter() {
            key.getattr("b")?.call1((value,))?;
        }
    }
    for item in list {
        item.call0()?;
    }
    Ok(made.len())
}

// No Python code runs meanwhile.
#[pyfunction]
fn count(dict: &Bound<'_, PyDict>) -> usize {
    let mut count = 0;
    for (_, value) in dict.iter() {
        count += usize::from(value.is_none());
    }
    for (key, value) in dict.copy().unwrap().iter() {
        key.call1((value,)).unwrap();
    }
    count
}

#[pyclass(frozen)]
struct Table {
    entries: Py<PyDict>,
}

#[pymethods]
impl Table {
    fn call_all(&self, py: Python<'_>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let values = RefCell::new(Vec::new());
        self.entries.bind(py).locked_for_each(|_, value| {
            values.borrow_mut().push(value);
            Ok(())
        })?;
        for value in values.into_inner() {
            callback.call1((value,))?;
        }
        Ok(())
    }

    fn count_none(&self, py: Python<'_>) -> usize {
        let entries = self.entries.bind(py);
        with_critical_section(entries.as_any(), || {
            let mut count = 0;
            for (_, value) in entries.iter() {
                count += usize::from(value.is_none());
            }
            count
        })
    }
}
