//! Whoever owns the lock gets its data without locking, because nobody else can have a guard.
//@ error: E0505

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>, lock: PyRwLock<i32>) -> i32 {
    let guard = lock.read(py);
    #[cfg(not(feature = "fail"))]
    drop(guard);
    let value = lock.into_inner();
    #[cfg(feature = "fail")]
    drop(guard);
    value
}
