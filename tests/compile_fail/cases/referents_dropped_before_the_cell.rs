//! A cell may outlive what its value refers to, unless dropping the value could use the reference.
//@ error: E0597
//@ places: 7

use pyo3::Python;
use pyo3_sync::{
    PyLazy, PyMutex, PyOnceLock, PyProtected, PyRwLock, PyTryLazy, compat::GILOnceCell,
};

pub struct Reference<'a>(pub &'a str);

#[cfg(feature = "fail")]
impl Drop for Reference<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

// The variables of each function are dropped from right to left.

pub fn once_lock() {
    let (cell, text);
    text = String::from("referent");
    cell = PyOnceLock::from(Reference(&text));
    let _ = &cell;
}

pub fn lazy() {
    let (lazy, text);
    text = String::from("referent");
    lazy = PyLazy::new(|_| Reference(&text));
    let _ = &lazy;
}

pub fn try_lazy() {
    let (lazy, text);
    text = String::from("referent");
    lazy = PyTryLazy::new(|_| Ok(Reference(&text)));
    let _ = &lazy;
}

pub fn gil_once_cell(py: Python<'_>) {
    let (cell, text);
    text = String::from("referent");
    cell = GILOnceCell::new();
    cell.get_or_init(py, || Reference(&text));
}

pub fn mutex() {
    let (mutex, text);
    text = String::from("referent");
    mutex = PyMutex::new(Reference(&text));
    let _ = &mutex;
}

pub fn rwlock() {
    let (lock, text);
    text = String::from("referent");
    lock = PyRwLock::new(Reference(&text));
    let _ = &lock;
}

pub fn protected() {
    let (cell, text);
    text = String::from("referent");
    cell = PyProtected::new(Reference(&text));
    let _ = &cell;
}
