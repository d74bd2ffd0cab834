//! A mapped guard must not outlive the token it was locked with: a thread-local is dropped when its thread ends, detached.
//@ error: E0521

use std::cell::RefCell;

use pyo3::Python;
use pyo3_sync::{MappedPyRwLockWriteGuard, PyRwLock, PyRwLockWriteGuard};

static LOCK: PyRwLock<[i32; 2]> = PyRwLock::new([0; 2]);

thread_local! {
    static KEPT: RefCell<Option<MappedPyRwLockWriteGuard<'static, i32>>> = const { RefCell::new(None) };
}

pub fn case(py: Python<'_>) {
    let guard = Some(PyRwLockWriteGuard::map(LOCK.write(py), |data| &mut data[0]));
    #[cfg(not(feature = "fail"))]
    let guard = guard.and(None);
    KEPT.set(guard);
}
