//! A guard lives no longer than the mutex and the token, so a helper that returns one needs the same lifetime for
//! both. One of the two errors that authors will meet, as the documentation of `PyMutex` has it.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::{PyMutex, PyMutexGuard};

pub struct Cache {
    pub entries: PyMutex<Vec<u64>>,
}

impl Cache {
    #[cfg(feature = "fail")]
    pub fn lock(&self, py: Python<'_>) -> PyMutexGuard<'_, Vec<u64>> {
        self.entries.lock(py)
    }
    #[cfg(not(feature = "fail"))]
    pub fn lock<'a>(&'a self, py: Python<'a>) -> PyMutexGuard<'a, Vec<u64>> {
        self.entries.lock(py)
    }
}
