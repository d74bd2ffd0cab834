//! A guard that owns a reference to its lock borrows nothing but the token, which it must not outlive either: a
//! thread-local is dropped when its thread ends, detached.
//@ error: E0521

use std::{cell::RefCell, sync::Arc};

use pyo3::Python;
use pyo3_sync::{ArcPyRwLockReadGuard, PyRwLock};

thread_local! {
    static KEPT: RefCell<Option<ArcPyRwLockReadGuard<'static, i32>>> = const { RefCell::new(None) };
}

pub fn case(py: Python<'_>, lock: &Arc<PyRwLock<i32>>) {
    let guard = Some(PyRwLock::read_arc(lock, py));
    #[cfg(not(feature = "fail"))]
    let guard = guard.and(None);
    KEPT.set(guard);
}
