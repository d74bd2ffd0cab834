//! A lazy value is shared with all threads, and any of them may make it or drop it.
//@ error: E0277

#[cfg(feature = "fail")]
use std::rc::Rc;

use pyo3_sync::PyLazy;

#[cfg(not(feature = "fail"))]
type Rc<T> = Box<T>;

static LAZY: PyLazy<Rc<i32>> = PyLazy::new(|_| Rc::new(0));

pub fn case() -> bool {
    LAZY.peek().is_some()
}
