//! A guard must not outlive the token it was locked with: a thread-local is dropped when its thread ends, detached.
//@ error: E0521

use std::cell::RefCell;

use pyo3::Python;
use pyo3_sync::{PyRwLock, PyRwLockWriteGuard};

static LOCK: PyRwLock<i32> = PyRwLock::new(0);

thread_local! {
    static KEPT: RefCell<Option<PyRwLockWriteGuard<'static, i32>>> = const { RefCell::new(None) };
}

pub fn case(py: Python<'_>) {
    let guard = Some(LOCK.write(py));
    #[cfg(not(feature = "fail"))]
    let guard = guard.and(None);
    KEPT.set(guard);
}
