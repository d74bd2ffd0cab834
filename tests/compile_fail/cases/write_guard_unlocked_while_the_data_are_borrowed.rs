//! While the lock is unlocked other threads change the data: no borrow of them lives through it.
//@ error: E0499

use pyo3_sync::PyRwLockWriteGuard;

pub fn case(mut guard: PyRwLockWriteGuard<'_, i32>) {
    let data = &mut *guard;
    #[cfg(not(feature = "fail"))]
    add_one(data);
    PyRwLockWriteGuard::unlocked(&mut guard, || {});
    #[cfg(feature = "fail")]
    add_one(data);
}

fn add_one(data: &mut i32) {
    *data += 1;
}
