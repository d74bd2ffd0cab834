//! While a thread waits others change the data: no borrow of them lives through it.
//@ error: E0499

use pyo3_sync::{PyCondvar, PyMutexGuard};

pub fn case(changed: &PyCondvar, mut guard: PyMutexGuard<'_, i32>) {
    let data = &mut *guard;
    #[cfg(not(feature = "fail"))]
    add_one(data);
    changed.wait(&mut guard);
    #[cfg(feature = "fail")]
    add_one(data);
}

fn add_one(data: &mut i32) {
    *data += 1;
}
