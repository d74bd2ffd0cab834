//! While the lock is unlocked other threads change the data: no borrow of them lives through it.
//@ error: E0502

use pyo3_sync::PyRwLockReadGuard;

pub fn case(mut guard: PyRwLockReadGuard<'_, i32>) -> i32 {
    #[cfg(feature = "fail")]
    let data = &*guard;
    #[cfg(not(feature = "fail"))]
    let data = &(*guard + 0);
    PyRwLockReadGuard::unlocked(&mut guard, || {});
    *data
}
