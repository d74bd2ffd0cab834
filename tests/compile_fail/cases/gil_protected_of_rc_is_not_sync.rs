//! `GILProtected` moves from thread to thread what it lends.
//@ error: E0277
#![allow(deprecated)]

use pyo3_sync::compat::GILProtected;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<GILProtected<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<GILProtected<std::cell::RefCell<i32>>>();
}
