//! Where there is no GIL, `GILProtected` cannot be shown to the collector either.
//@ error: E0277
//@ python: free-threaded
//@ says: `GILProtected` protects nothing on free-threaded Python

use pyo3::PyVisit;

#[cfg(feature = "fail")]
#[allow(deprecated)]
static NUMBER: pyo3_sync::compat::GILProtected<i32> = pyo3_sync::compat::GILProtected::new(1);

#[cfg(not(feature = "fail"))]
static NUMBER: pyo3_sync::PyProtected<i32> = pyo3_sync::PyProtected::new(1);

pub fn case(visit: PyVisit<'_>) {
    #[cfg(feature = "fail")]
    #[allow(deprecated)]
    NUMBER.traverse(visit);
    #[cfg(not(feature = "fail"))]
    NUMBER.traverse(&visit);
}
