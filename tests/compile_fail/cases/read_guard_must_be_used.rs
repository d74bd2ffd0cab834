//! A guard that nobody keeps unlocks before the next statement.
//@ error: unused_must_use
//@ says: if unused the lock is released immediately
#![deny(unused_must_use)]

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>, lock: &PyRwLock<i32>) {
    #[cfg(feature = "fail")]
    lock.read(py);
    #[cfg(not(feature = "fail"))]
    let _guard = lock.read(py);
}
