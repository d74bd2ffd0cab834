//! A mapped guard must not outlive the token it was locked with: after `attach` the thread may be detached.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::{PyRwLock, PyRwLockWriteGuard};

static LOCK: PyRwLock<i32> = PyRwLock::new(0);

pub fn case() -> i32 {
    #[cfg(feature = "fail")]
    return *Python::attach(|py| PyRwLockWriteGuard::map(LOCK.write(py), |value| value));
    #[cfg(not(feature = "fail"))]
    return Python::attach(|py| *PyRwLockWriteGuard::map(LOCK.write(py), |value| value));
}
