//! Dropping a guard may drop the value, which only an attached thread may do.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::PySnapshotGuard;

pub fn case(py: Python<'_>, guard: PySnapshotGuard<'_, i32>) -> i32 {
    #[cfg(feature = "fail")]
    let data = guard;
    #[cfg(not(feature = "fail"))]
    let data = &*guard;
    py.detach(move || *data)
}
