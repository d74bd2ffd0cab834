//! A guard that owns a reference to its lock must not outlive the token: after `attach` the thread may be detached.
//@ error: lifetime may not live long enough

use std::sync::Arc;

use pyo3::Python;
use pyo3_sync::PyRwLock;

pub fn case(lock: &Arc<PyRwLock<i32>>) -> i32 {
    #[cfg(feature = "fail")]
    return *Python::attach(|py| PyRwLock::write_arc(lock, py));
    #[cfg(not(feature = "fail"))]
    return Python::attach(|py| *PyRwLock::write_arc(lock, py));
}
