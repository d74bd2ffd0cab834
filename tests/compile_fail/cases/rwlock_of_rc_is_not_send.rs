//! A lock takes its data along when it is sent. With an `Rc` inside, two threads would count the same references.
//@ error: E0277

use pyo3_sync::PyRwLock;

fn sends<T: Send>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    sends::<PyRwLock<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    sends::<PyRwLock<std::cell::Cell<i32>>>();
}
