//! A guard must not outlive its token: after `attach` the thread may be detached.
//@ error: lifetime may not live long enough

use pyo3::Python;
use pyo3_sync::PySnapshot;

static SNAPSHOT: PySnapshot<i32> = PySnapshot::new(0);

pub fn case() -> i32 {
    #[cfg(feature = "fail")]
    return *Python::attach(|py| SNAPSHOT.load(py));
    #[cfg(not(feature = "fail"))]
    return Python::attach(|py| *SNAPSHOT.load(py));
}
