//! A guard that owns a reference to its lock, and that nobody keeps, unlocks before the next statement.
//@ error: unused_must_use
//@ says: if unused the lock is released immediately
#![deny(unused_must_use)]

use std::sync::Arc;

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>, lock: &Arc<PyRwLock<i32>>) {
    #[cfg(feature = "fail")]
    PyRwLock::write_arc(lock, py);
    #[cfg(not(feature = "fail"))]
    let _guard = PyRwLock::write_arc(lock, py);
}
