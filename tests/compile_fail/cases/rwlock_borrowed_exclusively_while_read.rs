//! An exclusive borrow gives the data without locking, because nobody else can have a guard.
//@ error: E0502

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(py: Python<'_>, lock: &mut PyRwLock<i32>) {
    let guard = lock.read(py);
    #[cfg(not(feature = "fail"))]
    drop(guard);
    *lock.get_mut() += 1;
    #[cfg(feature = "fail")]
    drop(guard);
}
