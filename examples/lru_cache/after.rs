//! The cache behind a [`PyMutex`] that is not held while Python runs: not while an object is made, and not while one is dropped. The
//! collector sees the objects through the lock.

use std::collections::HashMap;

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use pyo3_sync::PyMutex;

struct Entry {
    value: Py<PyAny>,
    used: u64,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    clock: u64,
}

impl Entries {
    fn find(&mut self, py: Python<'_>, key: &str) -> Option<Py<PyAny>> {
        self.clock += 1;
        let entry = self.by_key.get_mut(key)?;
        entry.used = self.clock;
        Some(entry.value.clone_ref(py))
    }

    /// Keeps `value`, and gives what had to leave for it.
    fn keep(&mut self, key: String, value: Py<PyAny>, capacity: usize) -> Option<Entry> {
        let mut evicted = None;
        if self.by_key.len() >= capacity {
            let oldest = self.by_key.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = oldest.map(|(key, _)| key.clone());
            evicted = oldest.and_then(|key| self.by_key.remove(&key));
        }
        let used = self.clock;
        self.by_key.insert(key, Entry { value, used });
        evicted
    }
}

#[pyclass(frozen, weakref)]
struct Cache {
    capacity: usize,
    entries: PyMutex<Entries>,
}

#[pymethods]
impl Cache {
    #[new]
    fn new(capacity: usize) -> Self {
        Cache {
            capacity,
            entries: PyMutex::default(),
        }
    }

    /// What is kept for `key`; otherwise what `make(key)` gives, and that is kept.
    ///
    /// Threads that miss the same key at once each make an object, and all get the one that was first.
    fn get(&self, py: Python<'_>, key: String, make: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if let Some(value) = self.entries.lock_checked(py)?.find(py, &key) {
            return Ok(value);
        }
        let made = make.call1((&key,))?.unbind();
        let mut entries = self.entries.lock_checked(py)?;
        if let Some(earlier) = entries.find(py, &key) {
            drop(entries); // Before `made`, whose `__del__` may want this cache.
            return Ok(earlier);
        }
        let evicted = entries.keep(key, made.clone_ref(py), self.capacity);
        drop(entries);
        drop(evicted);
        Ok(made)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.entries.lock_checked(py)?.by_key.len())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // `None` while the lock is held: its owner has the objects in use, so they are alive.
        let Some(entries) = self.entries.traverse(&visit) else {
            return Ok(());
        };
        let mut values = entries.by_key.values();
        values.try_for_each(|entry| visit.call(&entry.value))
    }

    fn __clear__(&self, py: Python<'_>) {
        let entries = std::mem::take(&mut *self.entries.lock(py));
        drop(entries); // When the lock is free again.
    }
}

#[pymodule(gil_used = false)]
mod lru_cache_after {
    #[pymodule_export]
    use super::Cache;
}
