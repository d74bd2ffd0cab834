//! A mapped guard that nobody keeps unlocks before the next statement.
//@ error: unused_must_use
//@ says: if unused the lock is released immediately
#![deny(unused_must_use)]

use pyo3_sync::PyRwLockReadGuard;

pub fn case(guard: PyRwLockReadGuard<'_, [i32; 2]>) {
    #[cfg(feature = "fail")]
    PyRwLockReadGuard::map(guard, |data| &data[0]);
    #[cfg(not(feature = "fail"))]
    let _guard = PyRwLockReadGuard::map(guard, |data| &data[0]);
}
