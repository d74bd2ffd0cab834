//! The value that an update replaces is dropped after it.
//@ error: E0521

use pyo3::Python;
use pyo3_sync::PySnapshot;

pub fn case(py: Python<'_>, snapshot: &PySnapshot<String>) {
    let mut kept = None;
    snapshot.update(py, |old| {
        #[cfg(feature = "fail")]
        {
            kept = Some(old);
        }
        #[cfg(not(feature = "fail"))]
        {
            kept = Some(old.clone());
        }
        String::new()
    });
    drop(kept);
}
