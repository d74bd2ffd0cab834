use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
};

use pyo3::prelude::*;

static CACHE: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());

#[pyfunction]
fn add(py: Python<'_>, make: Bound<'_, PyAny>) -> PyResult<()> {
    let mut cache = CACHE.lock().unwrap();
    cache.push(make.call0()?.unbind()); //~ guard-across-python
    Ok(())
}

#[pyclass(frozen)]
struct Settings {
    values: RwLock<HashMap<String, String>>,
    shared: Arc<parking_lot::Mutex<Vec<String>>>,
}

#[pymethods]
impl Settings {
    // Through a function of the crate, with the guard in a `match`.
    fn describe(&self, format: &Bound<'_, PyAny>) -> PyResult<String> {
        match self.values.read() {
            Ok(values) => render(format, values.len()), //~ guard-across-python
            Err(_) => Ok(String::new()),
        }
    }

    // As a temporary of the statement.
    fn first(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Some(name) = self.shared.lock().first() {
            return key.getattr(name.as_str())?.is_truthy(); //~ guard-across-python
        }
        Ok(false)
    }

    // Detached, and attaches under the lock, for which `first` waits attached.
    fn refresh(&self, py: Python<'_>) {
        let shared = self.shared.clone();
        py.detach(move || {
            let mut names = shared.lock();
            names.clear();
            Python::attach(|_| ()); //~ guard-across-python
        });
    }

    // Detaches with the lock in the hand.
    fn work(&self, py: Python<'_>) {
        let values = self.values.write().unwrap();
        py.detach(|| values.len()); //~ guard-across-python
    }
}

fn render(format: &Bound<'_, PyAny>, number: usize) -> PyResult<String> {
    format.call1((number,))?.extract()
}

enum Kind {
    Custom(Arc<RwLock<Custom>>),
    Plain,
}

struct Custom(Py<PyAny>);

impl Custom {
    fn decode(&self) -> String {
        Python::attach(|py| self.0.call0(py).unwrap().extract(py).unwrap())
    }
}

impl Kind {
    fn decode(&self, _py: Python<'_>) -> String {
        match self {
            Kind::Custom(inner) => inner.read().unwrap().decode(), //~ guard-across-python
            Kind::Plain => String::new(),
        }
    }
}
