//! A shared lock lends its data to several readers at once.
//@ error: E0277

#[cfg(feature = "fail")]
use std::cell::Cell;

use pyo3_sync::PyRwLock;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<PyRwLock<Cell<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<PyRwLock<i32>>();
}
