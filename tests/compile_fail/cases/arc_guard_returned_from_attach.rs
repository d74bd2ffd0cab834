//! A guard that owns a reference to its mutex must not outlive the token: after `attach` the thread may be detached.
//@ error: lifetime may not live long enough

use std::sync::Arc;

use pyo3::Python;
use pyo3_sync::PyMutex;

pub fn case(mutex: &Arc<PyMutex<i32>>) -> i32 {
    #[cfg(feature = "fail")]
    return *Python::attach(|py| PyMutex::lock_arc(mutex, py));
    #[cfg(not(feature = "fail"))]
    return Python::attach(|py| *PyMutex::lock_arc(mutex, py));
}
