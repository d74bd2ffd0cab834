//! A mapped guard unlocks when it is dropped, which only an attached thread may do (invariant I3).
//@ error: E0277

use pyo3::Python;
use pyo3_sync::MappedPyRwLockReadGuard;

pub fn case(py: Python<'_>, guard: MappedPyRwLockReadGuard<'_, i32>) -> i32 {
    #[cfg(feature = "fail")]
    let data = guard;
    #[cfg(not(feature = "fail"))]
    let data = &*guard;
    py.detach(move || *data)
}
