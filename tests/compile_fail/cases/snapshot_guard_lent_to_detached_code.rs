//! Detached code must not drop a guard in exchange for another one. It may share the guard.
//@ error: E0277

use pyo3::Python;
use pyo3_sync::PySnapshotGuard;

pub fn case(py: Python<'_>, guard: &mut PySnapshotGuard<'_, i32>) {
    #[cfg(feature = "fail")]
    let data = guard;
    #[cfg(not(feature = "fail"))]
    let data = &*guard;
    py.detach(move || use_it(data));
}

fn use_it(_: &i32) {}
