//! A snapshot takes its value along when it is sent.
//@ error: E0277

use pyo3_sync::PySnapshot;

fn sends<T: Send>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    sends::<PySnapshot<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    sends::<PySnapshot<std::cell::Cell<i32>>>();
}
