//! If it panics or fails another thread calls it again.
//@ error: E0507
//@ places: 2

use pyo3_sync::{PyLazy, PyTryLazy};

pub fn case(text: String, other: String) {
    #[cfg(feature = "fail")]
    {
        let _ = PyLazy::new(move |_| text);
        let _ = PyTryLazy::new(move |_| Ok(other));
    }
    #[cfg(not(feature = "fail"))]
    {
        let _ = PyLazy::new(move |_| text.clone());
        let _ = PyTryLazy::new(move |_| Ok(other.clone()));
    }
}
