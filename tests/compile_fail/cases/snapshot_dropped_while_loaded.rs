//! A guard borrows the snapshot, whose drop drops the value.
//@ error: E0597

use pyo3::Python;
use pyo3_sync::PySnapshot;

pub fn case(py: Python<'_>) -> i32 {
    #[cfg(not(feature = "fail"))]
    let snapshot = PySnapshot::new(1);
    let guard;
    {
        #[cfg(feature = "fail")]
        let snapshot = PySnapshot::new(1);
        guard = snapshot.load(py);
    }
    *guard
}
