//! A shared mutex hands its data from thread to thread, which is sending it. That is all it does: data that are not
//! `Sync` will do.
//@ error: E0277

use pyo3_sync::PyMutex;

fn shares<T: Sync>() {}

pub fn case() {
    #[cfg(feature = "fail")]
    shares::<PyMutex<std::rc::Rc<i32>>>();
    #[cfg(not(feature = "fail"))]
    shares::<PyMutex<std::cell::Cell<i32>>>();
}
