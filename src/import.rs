//! [`PyImport`]: a module, or an object in a module, imported on first use.

pub(crate) mod retry;

use std::{fmt, marker::PhantomData};

use pyo3::{PyTypeCheck, exceptions::PyTypeError, prelude::*, pyclass::PyVisit};

use self::retry::retry_import;
use crate::once_lock::PyOnceLock;

/// A Python module, or an object in a module, that is imported on first use.
///
/// # Examples
///
/// ```
/// use pyo3::{prelude::*, types::PyType};
/// use pyo3_sync::PyImport;
///
/// static JSON: PyImport = PyImport::module("json");
/// static DECODE_ERROR: PyImport<PyType> = PyImport::new("json", "JSONDecodeError");
/// static ITEMS: PyImport = PyImport::new("collections", "OrderedDict.items"); // a path
///
/// #[pyfunction]
/// fn is_json(py: Python<'_>, text: &str) -> PyResult<bool> {
///     match JSON.get(py)?.call_method1("loads", (text,)) {
///         Ok(_) => Ok(true),
///         Err(error) if error.is_instance(py, DECODE_ERROR.get(py)?) => Ok(false),
///         Err(error) => Err(error),
///     }
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     assert!(is_json(py, "[1]").unwrap() && !is_json(py, "[").unwrap());
/// #     assert!(ITEMS.get(py).unwrap().is_callable());
/// # });
/// ```
///
/// # Deadlocks
///
/// A `PyImport` holds no lock while it imports, so it cannot deadlock with the import locks of the
/// interpreter. A module may even use the same `PyImport` while it is being imported. Threads that
/// call [`get`](Self::get) at the same time all import; the interpreter serializes these imports
/// and runs the module once. The first object to arrive is kept.
///
/// If two threads import each other's modules, the interpreter refuses one of the imports with
/// `_DeadlockError`. A `PyImport` repeats a refused import a few times, for up to a second.
pub struct PyImport<T = PyAny> {
    cell: PyOnceLock<Py<T>>,
    module: &'static str,
    path: &'static str,
    _type: PhantomData<fn() -> T>,
}

impl<T> PyImport<T> {
    /// Creates an import of the object at `path` in `module`.
    ///
    /// A path is the name of an attribute, or several names separated by dots.
    pub const fn new(module: &'static str, path: &'static str) -> Self {
        PyImport {
            cell: PyOnceLock::new(),
            module,
            path,
            _type: PhantomData,
        }
    }

    /// Creates an import of the module itself.
    pub const fn module(module: &'static str) -> Self {
        Self::new(module, "")
    }
}

impl<T: PyTypeCheck> PyImport<T> {
    /// Returns the object, importing it first if necessary.
    ///
    /// # Errors
    ///
    /// Returns the exception that importing the module or looking up an attribute raised, or a
    /// `TypeError` if the object is not a `T`. After an error, the next call imports again.
    #[inline]
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, T>> {
        match self.cell.get(py) {
            Some(object) => Ok(object.bind(py)),
            None => self.import(py),
        }
    }

    /// Returns a new reference to the object, importing it first if necessary.
    ///
    /// # Errors
    ///
    /// Returns an exception where [`get`](Self::get) does.
    #[inline]
    pub fn get_owned<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, T>> {
        self.get(py).cloned()
    }

    /// Returns the object if it was imported. Needs no token and never blocks.
    #[inline]
    pub fn peek(&self) -> Option<&Py<T>> {
        self.cell.peek()
    }

    /// Returns the imported object to the garbage collector, in `__traverse__` or
    /// [`ModuleData::traverse`](crate::ModuleData::traverse).
    ///
    /// Returns `None` before the import. The reference ends with the visit.
    /// [Exactly one Python object](crate::PyMutex#one-owner) may own the `PyImport` and visit it.
    pub fn traverse<'v>(&'v self, visit: &'v PyVisit<'_>) -> Option<&'v Py<T>> {
        self.cell.traverse(visit)
    }

    #[cold]
    fn import<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, T>> {
        // Includes the attributes: looking one up may import a module.
        let object = retry_import(py, || {
            let mut object = py.import(self.module)?.into_any();
            for attribute in self.path.split('.').filter(|name| !name.is_empty()) {
                object = object.getattr(attribute)?;
            }
            Ok(object)
        })?;
        let object = object.cast_into::<T>().map_err(|error| {
            let found = error.into_inner().get_type();
            PyTypeError::new_err(format!(
                "{self} is a {found}, and was imported as a {}",
                std::any::type_name::<T>()
            ))
        })?;
        Ok(self.cell.get_or_insert(py, object.unbind()).bind(py))
    }
}

/// Formats the names of the module and the path.
impl<T> fmt::Display for PyImport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            "" => write!(f, "the module {}", self.module),
            path => write!(f, "{}.{path}", self.module),
        }
    }
}

/// Formats the names, and whether the object was imported.
impl<T> fmt::Debug for PyImport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyImport")
            .field("module", &self.module)
            .field("path", &self.path)
            .field("imported", &self.cell.is_initialized())
            .finish()
    }
}
