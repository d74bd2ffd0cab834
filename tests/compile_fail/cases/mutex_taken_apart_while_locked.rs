//! Whoever owns the mutex gets its data without locking, because nobody else can have a guard.
//@ error: E0505

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(py: Python<'_>, mutex: PyMutex<i32>) -> i32 {
    let guard = mutex.lock(py);
    #[cfg(not(feature = "fail"))]
    drop(guard);
    let value = mutex.into_inner();
    #[cfg(feature = "fail")]
    drop(guard);
    value
}
