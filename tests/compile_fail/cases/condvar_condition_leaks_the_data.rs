//! The condition gets the data for as long as it is being asked; then the thread waits, and others change them.
//@ error: E0521

use pyo3_sync::{PyCondvar, PyMutexGuard};

pub fn case(changed: &PyCondvar, mut guard: PyMutexGuard<'_, i32>) -> bool {
    let mut kept = None;
    changed.wait_while(&mut guard, |value| {
        #[cfg(feature = "fail")]
        let value = kept.insert(value);
        #[cfg(not(feature = "fail"))]
        let value = kept.insert(*value);
        let _ = value;
        false
    });
    kept.is_some()
}
