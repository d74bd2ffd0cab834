//! A guard must not outlive the token it was locked with: after `attach` the thread may be detached.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::PyMutex;

static MUTEX: PyMutex<i32> = PyMutex::new(0);

pub fn case() -> i32 {
    #[cfg(feature = "fail")]
    return *Python::attach(|py| MUTEX.lock(py));
    #[cfg(not(feature = "fail"))]
    return Python::attach(|py| *MUTEX.lock(py));
}
