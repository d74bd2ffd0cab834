//! An exclusive borrow gives the data without locking, because nobody else can have a guard.
//@ error: E0502

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(py: Python<'_>, mutex: &mut PyMutex<i32>) {
    let guard = mutex.lock(py);
    #[cfg(not(feature = "fail"))]
    drop(guard);
    *mutex.get_mut() += 1;
    #[cfg(feature = "fail")]
    drop(guard);
}
