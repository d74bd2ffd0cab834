//! A guard may drop the value, so what the value borrows must outlive the guard.
//@ error: E0597

use pyo3::Python;
use pyo3_sync::{PySnapshot, PySnapshotGuard};

pub struct Inspector<'a>(pub &'a str);

impl Drop for Inspector<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

pub fn case<'a>(py: Python<'a>, snapshot: &'a PySnapshot<Inspector<'static>>) {
    // Dropped from right to left. The guard is covariant, so that its value may refer to the text.
    #[cfg(feature = "fail")]
    let (mut guard, text): (PySnapshotGuard<'_, Inspector<'_>>, String);
    #[cfg(not(feature = "fail"))]
    let (text, mut guard): (String, PySnapshotGuard<'_, Inspector<'_>>);
    text = String::from("borrowed");
    guard = snapshot.load(py);
    lend(&mut guard, &text);
}

fn lend<'a>(_: &mut PySnapshotGuard<'_, Inspector<'a>>, _: &'a str) {}
