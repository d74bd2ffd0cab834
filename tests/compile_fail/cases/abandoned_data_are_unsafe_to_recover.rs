//! What a thread that a fork left behind was doing to the data nobody knows, nor to whom it had lent them: to use them as
//! they are is `unsafe`, and so is to replace them.
//@ error: E0133
//@ places: 4

use pyo3::Python;
use pyo3_sync::{PyMutex, PyRwLock};

pub fn case(py: Python<'_>, mutex: &PyMutex<i32>, lock: &PyRwLock<i32>) -> bool {
    #[cfg(feature = "fail")]
    let recovered = mutex.reset_abandoned(py, 0).is_ok()
        || mutex.recover_abandoned(py).is_some()
        || lock.reset_abandoned(py, 0).is_ok()
        || lock.recover_abandoned(py).is_some();
    #[cfg(not(feature = "fail"))]
    // SAFETY: an integer is whole, and nobody lends it.
    let recovered = unsafe {
        mutex.reset_abandoned(py, 0).is_ok()
            || mutex.recover_abandoned(py).is_some()
            || lock.reset_abandoned(py, 0).is_ok()
            || lock.recover_abandoned(py).is_some()
    };
    recovered
}
