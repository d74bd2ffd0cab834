//! After a downgrade others read: no exclusive borrow of the data lives through it.
//@ error: E0505

use pyo3_sync::PyRwLockWriteGuard;

pub fn case(mut guard: PyRwLockWriteGuard<'_, i32>) -> i32 {
    let data = &mut *guard;
    #[cfg(not(feature = "fail"))]
    add_one(data);
    let reading = PyRwLockWriteGuard::downgrade(guard);
    #[cfg(feature = "fail")]
    add_one(data);
    *reading
}

fn add_one(data: &mut i32) {
    *data += 1;
}
