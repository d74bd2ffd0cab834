//! A cell takes its data along when it is sent. With an `Rc` inside, two threads would count the same references.
//@ error: E0277

use pyo3_sync::PyProtected;

fn sends<T: Send>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    sends::<PyProtected<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    sends::<PyProtected<std::cell::Cell<i32>>>();
}
