//! An exclusive borrow gives access to the value, because there are no guards.
//@ error: E0502

use pyo3::Python;
use pyo3_sync::PySnapshot;

pub fn case(py: Python<'_>, snapshot: &mut PySnapshot<i32>) {
    let guard = snapshot.load(py);
    #[cfg(not(feature = "fail"))]
    drop(guard);
    *snapshot.get_mut() += 1;
    #[cfg(feature = "fail")]
    drop(guard);
}
