use std::sync::{Arc, LazyLock};

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use pyo3_sync::{PyMutex, PyOnceLock, PyRwLock};

fn visit_all(objects: Option<&Vec<Py<PyAny>>>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    objects.into_iter().flatten().try_for_each(|object| visit.call(object))
}

// Two classes.
#[pyclass(frozen)]
struct Document {
    observers: Arc<PyMutex<Vec<Py<PyAny>>>>,
}

#[pymethods]
impl Document {
    fn subscribe(&self) -> Subscription {
        Subscription { observers: self.observers.clone() } //~ shared-traverse
    }

    fn subscribe_by_constructor(&self) -> Subscription {
        let observers = Arc::clone(&self.observers); //~ shared-traverse
        Subscription::new(observers)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_all(self.observers.traverse(&visit), &visit)
    }
}

#[pyclass(frozen)]
struct Subscription {
    observers: Arc<PyMutex<Vec<Py<PyAny>>>>,
}

impl Subscription {
    fn new(observers: Arc<PyMutex<Vec<Py<PyAny>>>>) -> Self {
        Self { observers }
    }

    fn visit_observers(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_all(self.observers.traverse(visit), visit)
    }
}

#[pymethods]
impl Subscription {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.visit_observers(&visit)
    }
}

// Several objects of one class.
struct Entry {
    value: PyOnceLock<Py<PyAny>>,
}

#[pyclass(frozen)]
struct Twin(Arc<Entry>);

#[pymethods]
impl Twin {
    #[new]
    fn new() -> Self {
        Twin(Arc::new(Entry { value: PyOnceLock::new() }))
    }

    fn twin(slf: &Bound<'_, Self>) -> Self {
        Self(Arc::clone(&slf.get().0)) //~ shared-traverse
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.value.traverse(&visit).map_or(Ok(()), |object| visit.call(object))
    }
}

// A variable that goes into several objects.
#[pyclass(frozen)]
struct Node {
    shared: Arc<PyRwLock<Option<Py<PyAny>>>>,
}

#[pymethods]
impl Node {
    #[staticmethod]
    fn pair() -> (Node, Node) {
        let shared = Arc::new(PyRwLock::new(None));
        let first = Node { shared: shared.clone() };
        (first, Node { shared }) //~ shared-traverse
    }

    #[staticmethod]
    fn several(count: usize) -> Vec<Node> {
        let shared = Arc::new(PyRwLock::new(None));
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Node { shared: shared.clone() }); //~ shared-traverse
        }
        nodes
    }

    #[staticmethod]
    fn several_until(count: usize) -> Vec<Node> {
        let shared = Arc::new(PyRwLock::new(None));
        let mut nodes = Vec::new();
        loop {
            if nodes.len() < count {
                nodes.push(Node { shared: shared.clone() }); //~ shared-traverse
                continue;
            }
            return nodes;
        }
    }

    #[staticmethod]
    fn one_more(count: usize) -> Vec<Node> {
        let shared = Arc::new(PyRwLock::new(None));
        let mut nodes = Vec::new();
        for number in 0..count {
            if number == 3 {
                nodes.push(Node { shared: shared.clone() });
                break;
            }
        }
        match count {
            0 => return nodes,
            1 => nodes.push(Node { shared: shared.clone() }), //~ shared-traverse
            _ => {}
        }
        nodes.push(Node { shared }); //~ shared-traverse
        nodes
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.shared.traverse(&visit) {
            Some(Some(object)) => visit.call(object),
            _ => Ok(()),
        }
    }
}

// No lock is needed for it.
static SHARED: LazyLock<Arc<Vec<Py<PyAny>>>> = LazyLock::new(|| Arc::new(Vec::new()));

#[pyclass(frozen)]
struct View {
    objects: Arc<Vec<Py<PyAny>>>,
}

#[pymethods]
impl View {
    #[new]
    fn new() -> Self {
        View { objects: Arc::clone(&SHARED) } //~ shared-traverse
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Self { objects } = self;
        objects.iter().try_for_each(|object| visit.call(object))
    }
}

// Visited through variables.
#[pyclass(frozen)]
struct Alias {
    entry: Arc<Entry>,
}

#[pymethods]
impl Alias {
    fn twin(&self) -> Self {
        Alias { entry: self.entry.clone() } //~ shared-traverse
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let entry = &*self.entry;
        let value = &entry.value;
        if let Some(object) = value.traverse(&visit) {
            visit.call(object)?;
        }
        Ok(())
    }
}
