//! A shared snapshot lends its value to several readers at once.
//@ error: E0277

#[cfg(feature = "fail")]
use std::cell::Cell;

use pyo3_sync::PySnapshot;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<PySnapshot<Cell<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<PySnapshot<i32>>();
}
