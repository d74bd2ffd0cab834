//! Threads that share a cell share its value.
//@ error: E0277

use pyo3_sync::compat::GILOnceCell;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<GILOnceCell<std::cell::Cell<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<GILOnceCell<i32>>();
}
