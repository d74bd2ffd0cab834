//! While the lock is unlocked the guard cannot be used.
//@ error: E0502

use pyo3_sync::PyRwLockReadGuard;

pub fn case(mut guard: PyRwLockReadGuard<'_, i32>) -> i32 {
    #[cfg(not(feature = "fail"))]
    let guard_before = *guard;
    PyRwLockReadGuard::unlocked(&mut guard, || {
        #[cfg(feature = "fail")]
        return *guard;
        #[cfg(not(feature = "fail"))]
        return guard_before;
    })
}
