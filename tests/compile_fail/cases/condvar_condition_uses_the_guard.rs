//! The condition is asked while the thread waits with the guard, and gets the data from it.
//@ error: E0502

use pyo3_sync::{PyCondvar, PyMutexGuard};

pub fn case(changed: &PyCondvar, mut guard: PyMutexGuard<'_, i32>) {
    changed.wait_while(&mut guard, |value| {
        #[cfg(feature = "fail")]
        let value = (value, *guard).1;
        #[cfg(not(feature = "fail"))]
        let value = *value;
        value == 0
    });
}
