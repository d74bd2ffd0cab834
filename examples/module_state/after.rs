//! The same catalogue with a state for each module object: classes, cache and settings come with the module and go with it.

use std::collections::HashMap;

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyException,
    prelude::*,
    types::{IntoPyDict, PyString, PyType},
};
use pyo3_sync::{ModuleData, ModuleState, PyImport, PyMutex, PyOnceLock};

static STATE: ModuleState<Catalogue> = ModuleState::new();

struct Catalogue {
    /// Made with the module. They lead to nothing of ours, but are visited all the same: Python code can give a class anything.
    catalogue_error: Py<PyType>,
    not_found: Py<PyType>,
    /// Made when they are first needed, by whichever thread comes first. The one needs the other.
    item: PyOnceLock<Py<PyType>>,
    book: PyOnceLock<Py<PyType>>,
    /// Imported when it is first needed.
    fraction: PyImport<PyType>,
    /// Interned once. A string leads to nothing.
    title: Py<PyString>,
    cache: PyMutex<HashMap<String, Py<PyAny>>>,
    /// Read once, when the module was imported.
    settings: Settings,
}

struct Settings {
    capacity: usize,
}

impl Settings {
    fn read(py: Python<'_>) -> PyResult<Self> {
        let environ = py.import("os")?.getattr("environ")?;
        let capacity = environ.call_method1("get", ("CATALOGUE_CAPACITY", "1000"))?;
        let capacity: String = capacity.extract()?;
        Ok(Settings {
            capacity: capacity.parse()?,
        })
    }
}

impl ModuleData for Catalogue {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.catalogue_error)?;
        visit.call(&self.not_found)?;
        visit.call(self.item.traverse(visit))?;
        visit.call(self.book.traverse(visit))?;
        visit.call(self.fraction.traverse(visit))?;
        for book in self
            .cache
            .traverse(visit)
            .into_iter()
            .flat_map(HashMap::values)
        {
            visit.call(book)?;
        }
        Ok(())
    }
}

impl Catalogue {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let base = py.get_type::<PyException>();
        let catalogue_error =
            PyErr::new_type(py, c"catalogue.CatalogueError", None, Some(&base), None)?;
        let base = catalogue_error.bind(py);
        let not_found = PyErr::new_type(py, c"catalogue.NotFound", None, Some(base), None)?;
        Ok(Catalogue {
            catalogue_error,
            not_found,
            item: PyOnceLock::new(),
            book: PyOnceLock::new(),
            fraction: PyImport::new("fractions", "Fraction"),
            title: PyString::intern(py, "title").unbind(),
            cache: PyMutex::default(),
            settings: Settings::read(py)?,
        })
    }

    fn item<'py>(&self, module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
        let py = module.py();
        let class = self
            .item
            .get_or_try_init_py(py, || make_class(module, "Item", None))?;
        Ok(class.bind(py).clone())
    }

    fn book<'py>(&self, module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
        let py = module.py();
        let class = self.book.get_or_try_init_py(py, || {
            let item = self.item(module)?;
            make_class(module, "Book", Some(item))
        })?;
        Ok(class.bind(py).clone())
    }
}

/// A class that leads back to its module, as classes with methods do.
fn make_class(
    module: &Bound<'_, PyModule>,
    name: &str,
    base: Option<Bound<'_, PyType>>,
) -> PyResult<Py<PyType>> {
    let py = module.py();
    let members = [("catalogue", module)].into_py_dict(py)?;
    members.set_item("__module__", "catalogue")?;
    let base = base.unwrap_or_else(|| py.get_type::<PyAny>());
    let class = py.get_type::<PyType>().call1((name, (base,), members))?;
    Ok(class.cast_into()?.unbind())
}

/// The class of everything in the catalogue.
#[pyfunction(pass_module)]
fn item_class<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
    STATE.get(module)?.item(module)
}

/// The class of the books.
#[pyfunction(pass_module)]
fn book_class<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
    STATE.get(module)?.book(module)
}

/// The book with this title, which is one object as long as it is in the cache.
#[pyfunction(pass_module)]
fn look_up<'py>(module: &Bound<'py, PyModule>, title: String) -> PyResult<Bound<'py, PyAny>> {
    let (py, state) = (module.py(), STATE.get(module)?);
    if title.is_empty() {
        let not_found = state.not_found.bind(py).clone();
        return Err(PyErr::from_type(not_found, "no title"));
    }
    if let Some(book) = state.cache.lock_checked(py)?.get(&title) {
        return Ok(book.bind(py).clone());
    }
    let book = state.book(module)?.call0()?;
    book.setattr(state.title.bind(py), &title)?;
    // Another thread may have been faster.
    let mut cache = state.cache.lock_checked(py)?;
    if cache.len() >= state.settings.capacity {
        let full = state.catalogue_error.bind(py).clone();
        return Err(PyErr::from_type(full, "the catalogue is full"));
    }
    let entry = cache.entry(title).or_insert_with(|| book.unbind());
    Ok(entry.bind(py).clone())
}

/// How many books are in the cache.
#[pyfunction(pass_module)]
fn cached(module: &Bound<'_, PyModule>) -> PyResult<usize> {
    let py = module.py();
    Ok(STATE.get(module)?.cache.lock_checked(py)?.len())
}

/// One of PyO3's classes: there is one in the process, which knows no module.
#[pyclass(frozen)]
struct Shelf;

#[pymethods]
impl Shelf {
    #[new]
    fn new() -> Self {
        Shelf
    }

    /// What part of the catalogue's capacity is used.
    fn fullness<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = STATE.find(py)?;
        let cached = state.cache.lock_checked(py)?.len();
        let fraction = state.fraction.get(py)?;
        fraction.call1((cached, state.settings.capacity))
    }
}

#[pymodule(gil_used = false)]
fn module_state_after(module: &Bound<'_, PyModule>) -> PyResult<()> {
    pyo3_sync::ensure_single_interpreter(module)?;
    let py = module.py();
    let state = STATE.init(module, || Catalogue::new(py))?;
    module.add("CatalogueError", &state.catalogue_error)?;
    module.add("NotFound", &state.not_found)?;
    module.add_class::<Shelf>()?;
    module.add_function(wrap_pyfunction!(item_class, module)?)?;
    module.add_function(wrap_pyfunction!(book_class, module)?)?;
    module.add_function(wrap_pyfunction!(look_up, module)?)?;
    module.add_function(wrap_pyfunction!(cached, module)?)
}
