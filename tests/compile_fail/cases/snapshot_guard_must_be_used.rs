//! A guard that is dropped at once keeps nothing.
//@ error: unused_must_use
//@ says: if unused the value is not kept
#![deny(unused_must_use)]

use pyo3::Python;
use pyo3_sync::PySnapshot;

pub fn case(py: Python<'_>, snapshot: &PySnapshot<i32>) {
    #[cfg(feature = "fail")]
    snapshot.load(py);
    #[cfg(not(feature = "fail"))]
    let _guard = snapshot.load(py);
}
