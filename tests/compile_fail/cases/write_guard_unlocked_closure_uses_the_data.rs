//! While the lock is unlocked the guard cannot be used.
//@ error: E0502

use pyo3_sync::PyRwLockWriteGuard;

pub fn case(mut guard: PyRwLockWriteGuard<'_, i32>) -> i32 {
    #[cfg(not(feature = "fail"))]
    let guard_before = *guard;
    PyRwLockWriteGuard::unlocked(&mut guard, || {
        #[cfg(feature = "fail")]
        return *guard;
        #[cfg(not(feature = "fail"))]
        return guard_before;
    })
}
