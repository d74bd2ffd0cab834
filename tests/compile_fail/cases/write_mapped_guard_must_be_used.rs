//! A mapped guard that nobody keeps unlocks before the next statement.
//@ error: unused_must_use
//@ says: if unused the lock is released immediately
#![deny(unused_must_use)]

use pyo3_sync::PyRwLockWriteGuard;

pub fn case(guard: PyRwLockWriteGuard<'_, [i32; 2]>) {
    #[cfg(feature = "fail")]
    PyRwLockWriteGuard::map(guard, |data| &mut data[0]);
    #[cfg(not(feature = "fail"))]
    let _guard = PyRwLockWriteGuard::map(guard, |data| &mut data[0]);
}
