//! A cell takes its value along when it is sent.
//@ error: E0277

use pyo3_sync::PyOnceLock;

fn sends<T: Send>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    sends::<PyOnceLock<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    sends::<PyOnceLock<std::cell::Cell<i32>>>();
}
