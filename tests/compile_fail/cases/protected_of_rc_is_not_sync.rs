//! A shared cell hands its data from thread to thread, which is sending it. That is all it does: data that are not
//! `Sync` will do.
//@ error: E0277

use pyo3_sync::PyProtected;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<PyProtected<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<PyProtected<std::cell::Cell<i32>>>();
}
