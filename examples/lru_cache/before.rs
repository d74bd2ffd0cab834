//! A cache of Python objects that keeps the ones used last. `get` has the cache borrowed while it calls into Python, so that whoever
//! comes meanwhile is refused: another thread, with or without a GIL, or the function that makes the object.

use std::collections::HashMap;

use pyo3::{PyTraverseError, PyVisit, prelude::*};

struct Entry {
    value: Py<PyAny>,
    used: u64,
}

#[pyclass(weakref)]
struct Cache {
    capacity: usize,
    entries: HashMap<String, Entry>,
    clock: u64,
}

#[pymethods]
impl Cache {
    #[new]
    fn new(capacity: usize) -> Self {
        Cache {
            capacity,
            entries: HashMap::new(),
            clock: 0,
        }
    }

    /// What is kept for `key`; otherwise what `make(key)` gives, and that is kept.
    fn get(&mut self, py: Python<'_>, key: String, make: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.used = self.clock;
            return Ok(entry.value.clone_ref(py));
        }
        let value = make.call1((&key,))?.unbind();
        if self.entries.len() >= self.capacity {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        let entry = Entry {
            value: value.clone_ref(py),
            used: self.clock,
        };
        self.entries.insert(key, entry);
        Ok(value)
    }

    fn __len__(&self) -> usize {
        self.entries.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.entries
            .values()
            .try_for_each(|entry| visit.call(&entry.value))
    }

    fn __clear__(&mut self) {
        self.entries.clear();
    }
}

#[pymodule(gil_used = false)]
mod lru_cache_before {
    #[pymodule_export]
    use super::Cache;
}
