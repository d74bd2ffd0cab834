//! A mapped guard is not lent to code that runs detached, which could drop it in exchange for another; the data are.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::MappedPyRwLockWriteGuard;

pub fn case(py: Python<'_>, mut guard: MappedPyRwLockWriteGuard<'_, i32>) {
    #[cfg(feature = "fail")]
    let data = &mut guard;
    #[cfg(not(feature = "fail"))]
    let data = &mut *guard;
    py.detach(|| add_one(data));
}

fn add_one(data: &mut i32) {
    *data += 1;
}
