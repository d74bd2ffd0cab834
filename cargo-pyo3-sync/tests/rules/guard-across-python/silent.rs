use std::{
    collections::HashMap,
    sync::{Mutex, RwLock},
};

use pyo3::{prelude::*, sync::MutexExt};
use pyo3_sync::PyMutex;

static CACHE: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());
static OURS: PyMutex<Vec<Py<PyAny>>> = PyMutex::new(Vec::new());
static COUNT: Mutex<u64> = Mutex::new(0);

// The guard is gone when Python code runs.
#[pyfunction]
fn add(py: Python<'_>, make: Bound<'_, PyAny>) -> PyResult<()> {
    let made = make.call0()?.unbind();
    CACHE.lock().unwrap().push(made.clone_ref(py));
    {
        let mut cache = CACHE.lock().unwrap();
        cache.push(made);
    }
    make.call0()?;
    let mut cache = CACHE.lock().unwrap();
    cache.clear();
    drop(cache);
    make.call0()?;
    let length = CACHE.lock().unwrap().len();
    make.call1((length,))?;
    Ok(())
}

// Dropped on the way that goes on.
#[pyfunction]
fn early(make: Bound<'_, PyAny>) -> PyResult<()> {
    let cache = CACHE.lock().unwrap();
    if cache.is_empty() {
        drop(cache);
        make.call0()?;
        return Ok(());
    }
    Ok(())
}

#[pyfunction]
fn condition(make: Bound<'_, PyAny>) -> PyResult<()> {
    if CACHE.lock().unwrap().is_empty() {
        make.call0()?;
    }
    Ok(())
}

// Who waits here detaches.
#[pyfunction]
fn aware(py: Python<'_>, make: Bound<'_, PyAny>) -> PyResult<()> {
    let mut count = COUNT.lock_py_attached(py).unwrap();
    *count += make.call0()?.extract::<u64>()?;
    let mut ours = OURS.lock(py);
    ours.push(make.call0()?.unbind());
    Ok(())
}

#[pyclass(frozen)]
struct Registry {
    callbacks: RwLock<HashMap<String, Box<dyn Fn() + Send + Sync>>>,
}

#[pymethods]
impl Registry {
    // The closure is kept, and runs when the lock is free.
    fn add(&self, name: String, callback: Py<PyAny>) {
        self.callbacks.write().unwrap().insert(
            name,
            Box::new(move || {
                Python::attach(|py| callback.call0(py).unwrap());
            }),
        );
    }
}

// One thread has it.
#[pyclass]
// pyo3-sync: allow(pyclass-mut-self) an iterator that no two threads share
struct Collector {
    warnings: Mutex<Vec<String>>,
}

#[pymethods]
impl Collector {
    fn run(&mut self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        let warnings = self.warnings.lock().unwrap();
        callback.call1((warnings.len(),))?;
        Ok(())
    }
}

// The type of another crate that is called as one of ours.
#[pyclass(frozen)]
struct Environment {
    inner: Mutex<minijinja::Environment<'static>>,
}

#[pymethods]
impl Environment {
    fn add_filter(&self, filter: Py<PyAny>) {
        self.inner.lock().unwrap().add_filter(move |value| Python::attach(|py| filter.call1(py, (value,))));
    }
}
