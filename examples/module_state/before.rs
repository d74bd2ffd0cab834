//! A catalogue of books, whose classes and cache are static variables: one of each for the process.
//!
//! A second import of the module, side by side with the first, gets the classes of the first, and its cache. What the statics
//! refer to is never freed, whatever becomes of the modules.

use std::{collections::HashMap, sync::Mutex};

use pyo3::{
    exceptions::PyException,
    prelude::*,
    sync::PyOnceLock,
    types::{IntoPyDict, PyType},
};

static CATALOGUE_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static NOT_FOUND: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BOOK: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CACHE: Mutex<Option<HashMap<String, Py<PyAny>>>> = Mutex::new(None);

fn catalogue_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = CATALOGUE_ERROR.get_or_try_init(py, || {
        let base = py.get_type::<PyException>();
        PyErr::new_type(py, c"catalogue.CatalogueError", None, Some(&base), None)
    })?;
    Ok(class.bind(py))
}

fn not_found(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = NOT_FOUND.get_or_try_init(py, || {
        let base = catalogue_error(py)?;
        PyErr::new_type(py, c"catalogue.NotFound", None, Some(base), None)
    })?;
    Ok(class.bind(py))
}

/// The class of the books, made when the first one is looked up.
#[pyfunction]
fn book_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = BOOK.get_or_try_init(py, || {
        let class = py.get_type::<PyType>().call1((
            "Book",
            (),
            [("__module__", "catalogue")].into_py_dict(py)?,
        ))?;
        Ok::<_, PyErr>(class.cast_into()?.unbind())
    })?;
    Ok(class.bind(py))
}

/// The book with this title, which is one object as long as it is in the cache.
#[pyfunction]
fn look_up<'py>(py: Python<'py>, title: String) -> PyResult<Bound<'py, PyAny>> {
    if title.is_empty() {
        return Err(PyErr::from_type(not_found(py)?.clone(), "no title"));
    }
    let class = book_class(py)?;
    let mut cache = CACHE.lock().expect("no panic");
    let cache = cache.get_or_insert_default();
    if let Some(book) = cache.get(&title) {
        return Ok(book.bind(py).clone());
    }
    let book = class.call0()?;
    book.setattr("title", &title)?;
    cache.insert(title, book.clone().unbind());
    Ok(book)
}

/// How many books are in the cache.
#[pyfunction]
fn cached() -> usize {
    let cache = CACHE.lock().expect("no panic");
    cache.as_ref().map_or(0, HashMap::len)
}

#[pymodule(gil_used = false)]
fn module_state_before(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("CatalogueError", catalogue_error(py)?)?;
    module.add("NotFound", not_found(py)?)?;
    module.add_function(wrap_pyfunction!(book_class, module)?)?;
    module.add_function(wrap_pyfunction!(look_up, module)?)?;
    module.add_function(wrap_pyfunction!(cached, module)?)
}
