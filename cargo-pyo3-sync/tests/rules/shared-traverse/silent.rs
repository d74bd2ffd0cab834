use std::{sync::Arc, thread};

use pyo3::{PyTraverseError, PyVisit, exceptions::PyValueError, prelude::*};
use pyo3_sync::PyMutex;

fn visit_all(objects: Option<&Vec<Py<PyAny>>>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    objects.into_iter().flatten().try_for_each(|object| visit.call(object))
}

// Two classes with contents of their own. One lends them to an object that keeps it alive.
#[pyclass(frozen)]
struct Document {
    observers: Arc<PyMutex<Vec<Py<PyAny>>>>,
}

#[pymethods]
impl Document {
    #[new]
    fn new() -> Self {
        Document { observers: Arc::new(PyMutex::new(Vec::new())) }
    }

    fn observers(slf: Bound<'_, Self>) -> Observers {
        let observers = slf.get().observers.clone();
        Observers { document: slf.unbind(), observers }
    }

    fn notify(&self) {
        let observers = self.observers.clone();
        thread::spawn(move || Python::attach(|py| observers.lock(py).clear()));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_all(self.observers.traverse(&visit), &visit)
    }
}

#[pyclass(frozen)]
struct Observers {
    document: Py<Document>,
    observers: Arc<PyMutex<Vec<Py<PyAny>>>>,
}

#[pymethods]
impl Observers {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.document)
    }
}

#[pyclass(frozen)]
struct Other {
    observers: Arc<PyMutex<Vec<Py<PyAny>>>>,
}

#[pymethods]
impl Other {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_all(self.observers.traverse(&visit), &visit)
    }
}

#[pyclass(frozen)]
struct Log {
    observers: Arc<PyMutex<Vec<Py<PyAny>>>>,
}

#[pymethods]
impl Log {
    #[new]
    fn new() -> Self {
        let observers = Arc::new(PyMutex::new(Vec::new()));
        let worker = observers.clone();
        thread::spawn(move || Python::attach(|py| worker.lock(py).clear()));
        Self { observers }
    }

    #[staticmethod]
    fn one_of_two(is_quiet: bool) -> Log {
        let observers = Arc::new(PyMutex::new(Vec::new()));
        if is_quiet { Log { observers } } else { Log { observers } }
    }

    #[staticmethod]
    fn early(is_quiet: bool, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let observers = Arc::new(PyMutex::new(Vec::new()));
        if is_quiet {
            return Ok(Py::new(py, Log { observers: observers.clone() })?.into_any());
        }
        Ok(Py::new(py, Other { observers })?.into_any())
    }

    #[staticmethod]
    fn by_kind(kind: u8, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let observers = Arc::new(PyMutex::new(Vec::new()));
        match kind {
            0 => Ok(Py::new(py, Log { observers: observers.clone() })?.into_any()),
            1 => Ok(Py::new(py, Other { observers: observers.clone() })?.into_any()),
            _ => Err(PyValueError::new_err("unknown kind")),
        }
    }

    #[staticmethod]
    fn retry(limit: usize) -> Log {
        let observers = Arc::new(PyMutex::new(Vec::new()));
        for attempt in 0..limit {
            if attempt % 2 == 0 {
                return Log { observers: observers.clone() };
            }
            if attempt % 3 == 0 {
                let log = Log { observers: observers.clone() };
                return log;
            }
        }
        loop {
            if limit > 9 {
                break Log { observers: observers.clone() };
            }
        }
    }

    #[staticmethod]
    fn two() -> (Log, Log) {
        let observers = Arc::new(PyMutex::new(Vec::new()));
        let first = Log { observers: observers.clone() };
        let observers = Arc::new(PyMutex::new(Vec::new()));
        (first, Log { observers })
    }

    #[staticmethod]
    fn several(count: usize) -> Vec<Log> {
        let mut logs = Vec::new();
        for _ in 0..count {
            let observers = Arc::new(PyMutex::new(Vec::new()));
            logs.push(Log { observers: observers.clone() });
        }
        logs
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_all(self.observers.traverse(&visit), &visit)
    }
}

// The one refers to the other.
#[pyclass(frozen)]
struct Subscription {
    document: Py<Document>,
}

#[pymethods]
impl Subscription {
    fn twin(&self, py: Python<'_>) -> Self {
        Subscription { document: self.document.clone_ref(py) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.document)
    }
}

// The shared field holds no objects, and the field with objects is not shared.
#[pyclass(frozen)]
struct Counter {
    counts: Arc<PyMutex<Vec<u64>>>,
    owner: PyMutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl Counter {
    fn twin(&self) -> Self {
        Counter { counts: self.counts.clone(), owner: PyMutex::new(None) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let _ = &self.counts;
        match self.owner.traverse(&visit) {
            Some(Some(object)) => visit.call(object),
            _ => Ok(()),
        }
    }
}

// `__traverse__` reads the shared field, and visits nothing in it.
struct Shared {
    closed: bool,
    callback: PyMutex<Option<Py<PyAny>>>,
}

#[pyclass(frozen)]
struct Child {
    parent: Py<Log>,
    shared: Arc<Shared>,
}

#[pymethods]
impl Child {
    fn twin(&self, py: Python<'_>) -> Child {
        Child { parent: self.parent.clone_ref(py), shared: self.shared.clone() }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if self.shared.closed {
            return Ok(());
        }
        visit.call(&self.parent)
    }
}

// Moved from one object to another.
struct Builder {
    objects: Arc<Vec<Py<PyAny>>>,
}

impl Builder {
    fn build(self) -> Built {
        Built { objects: self.objects }
    }
}

#[pyclass(frozen)]
struct Built {
    objects: Arc<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Built {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.objects.iter().try_for_each(|object| visit.call(object))
    }
}
