//! While the lock is unlocked other threads change the data: no borrow of them lives through it.
//@ error: E0502

use pyo3_sync::PyRwLockReadGuard;

pub fn case(mut guard: PyRwLockReadGuard<'_, String>) -> usize {
    #[cfg(feature = "fail")]
    let data = guard.as_str();
    #[cfg(not(feature = "fail"))]
    let data = guard.clone();
    PyRwLockReadGuard::unlocked(&mut guard, || {});
    data.len()
}
