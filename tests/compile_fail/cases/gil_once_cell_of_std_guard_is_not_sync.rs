//! One thread can fill a cell for another to take the value out, so a shared cell asks for `Send` too.
//@ error: E0277

use pyo3_sync::compat::GILOnceCell;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<GILOnceCell<std::sync::MutexGuard<'static, i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<GILOnceCell<&'static std::sync::Mutex<i32>>>();
}
