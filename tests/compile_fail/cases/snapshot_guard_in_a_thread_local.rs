//! A guard must not outlive its token: a thread-local is dropped by a detached thread.
//@ error: E0521

use std::cell::RefCell;

use pyo3::Python;
use pyo3_sync::{PySnapshot, PySnapshotGuard};

static SNAPSHOT: PySnapshot<i32> = PySnapshot::new(0);

thread_local! {
    static KEPT: RefCell<Option<PySnapshotGuard<'static, i32>>> = const { RefCell::new(None) };
}

pub fn case(py: Python<'_>) {
    let guard = Some(SNAPSHOT.load(py));
    #[cfg(not(feature = "fail"))]
    let guard = guard.and(None);
    KEPT.set(guard);
}
