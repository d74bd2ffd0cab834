//! Another thread may replace the value, and the last guard drops it.
//@ error: E0597

use pyo3::Python;
use pyo3_sync::PySnapshot;

static SNAPSHOT: PySnapshot<String> = PySnapshot::new(String::new());

pub fn case(py: Python<'_>) -> usize {
    #[cfg(not(feature = "fail"))]
    let guard = SNAPSHOT.load(py);
    let value: &str = {
        #[cfg(feature = "fail")]
        let guard = SNAPSHOT.load(py);
        &guard
    };
    value.len()
}
