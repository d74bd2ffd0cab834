//! A cell takes its value along when it is sent.
//@ error: E0277

use pyo3_sync::compat::GILOnceCell;

fn sends<T: Send>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    sends::<GILOnceCell<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    sends::<GILOnceCell<std::cell::Cell<i32>>>();
}
