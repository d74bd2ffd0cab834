use std::{cell::RefCell, rc::Rc};

use pyo3::prelude::*;

struct Shared<T>(RefCell<T>);

unsafe impl<T: Send> Sync for Shared<T> {} //~ unsafe-marker

struct Inner {
    parts: Vec<Rc<String>>,
}

struct Outer {
    inner: Inner,
}

unsafe impl Sync for Outer {} //~ unsafe-marker

struct Handle(usize);

// SAFETY: the GIL protects it.
unsafe impl Send for Handle {} //~ unsafe-marker

#[pyclass(frozen)]
struct Window {
    raw: *mut u8,
}

unsafe impl Send for Window {}
unsafe impl Sync for Window {} //~ unsafe-marker
