//! Other threads read the value too.
//@ error: E0594

use pyo3::Python;
use pyo3_sync::PySnapshot;

pub fn case(py: Python<'_>, snapshot: &PySnapshot<i32>) {
    #[cfg(feature = "fail")]
    {
        *snapshot.load(py) += 1;
    }
    #[cfg(not(feature = "fail"))]
    snapshot.update(py, |old| old + 1);
}
