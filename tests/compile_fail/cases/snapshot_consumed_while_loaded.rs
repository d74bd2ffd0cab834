//! The owner of the snapshot gets the value, because there are no guards.
//@ error: E0505

use pyo3::Python;
use pyo3_sync::PySnapshot;

pub fn case(py: Python<'_>, snapshot: PySnapshot<i32>) -> i32 {
    let guard = snapshot.load(py);
    #[cfg(not(feature = "fail"))]
    drop(guard);
    let value = snapshot.into_inner();
    #[cfg(feature = "fail")]
    drop(guard);
    value
}
