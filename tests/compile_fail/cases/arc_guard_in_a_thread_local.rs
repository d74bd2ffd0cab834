//! A guard that owns a reference to its mutex borrows nothing but the token, which it must not outlive either: a
//! thread-local is dropped when its thread ends, detached.
//@ error: E0521

use std::{cell::RefCell, sync::Arc};

use pyo3::Python;
use pyo3_sync::{ArcPyMutexGuard, PyMutex};

thread_local! {
    static KEPT: RefCell<Option<ArcPyMutexGuard<'static, i32>>> = const { RefCell::new(None) };
}

pub fn case(py: Python<'_>, mutex: &Arc<PyMutex<i32>>) {
    let guard = Some(PyMutex::lock_arc(mutex, py));
    #[cfg(not(feature = "fail"))]
    let guard = guard.and(None);
    KEPT.set(guard);
}
