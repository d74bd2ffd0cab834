//! All but the last four become `frozen`.

use pyo3::prelude::*;

#[pyclass]
struct Plain {
    value: u8,
}

#[pymethods]
impl Plain {
    #[new]
    fn new(value: u8) -> Self {
        Plain { value }
    }

    fn get(&self) -> u8 {
        self.value
    }

    fn itself(slf: PyRef<'_, Self>) -> u8 {
        slf.value
    }
}

#[pyclass()]
struct Empty;

#[pyclass( name = "Other", get_all )]
struct Named {
    value: u8,
}

#[pyo3::pyclass(module = "frozen")]
#[derive(Clone)]
struct Qualified {
    #[pyo3(get)]
    value: u8,
}

#[cfg_attr(all(), pyclass)]
struct Conditional;

#[cfg_attr(not(feature = "pyclass"), pyo3::pyclass(name = "pyclass"))]
struct NamedAsTheFeature;

#[pyclass]
#[pyo3(name = "Renamed")]
struct InAnotherAttribute;

#[pyclass(eq, eq_int)]
#[derive(PartialEq)]
enum Simple {
    A,
    B,
}

#[pyclass]
enum WithoutFields {
    A(),
    B {},
}

/// They could both be; one alone could not.
#[pyclass(subclass)]
struct Base;

#[pyclass(extends = Base)]
struct Derived;

/// PyO3 freezes it itself.
#[pyclass]
enum Complex {
    Circle { radius: f64 },
    Nothing(),
}

#[pyclass(frozen)]
struct Already;

fn make(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // What `frozen` gives.
    let object = Bound::new(py, Plain { value: 1 })?;
    Ok(object.into_any().unbind())
}
