//! A mapped guard that nobody keeps unlocks before the next statement.
//@ error: unused_must_use
//@ says: if unused the lock is released immediately
#![deny(unused_must_use)]

use pyo3_sync::PyMutexGuard;

pub fn case(guard: PyMutexGuard<'_, [i32; 2]>) {
    #[cfg(feature = "fail")]
    PyMutexGuard::map(guard, |data| &mut data[0]);
    #[cfg(not(feature = "fail"))]
    let _guard = PyMutexGuard::map(guard, |data| &mut data[0]);
}
