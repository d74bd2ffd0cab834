//! A guard that owns a reference to its mutex, and that nobody keeps, unlocks before the next statement.
//@ error: unused_must_use
//@ says: if unused the lock is released immediately
#![deny(unused_must_use)]

use std::sync::Arc;

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(py: Python<'_>, mutex: &Arc<PyMutex<i32>>) {
    #[cfg(feature = "fail")]
    PyMutex::lock_arc(mutex, py);
    #[cfg(not(feature = "fail"))]
    let _guard = PyMutex::lock_arc(mutex, py);
}
