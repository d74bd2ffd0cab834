use std::{
    cell::RefCell,
    sync::{Arc, Mutex, atomic::AtomicUsize},
};

use pyo3::prelude::*;

struct Scratch {
    list: RefCell<Vec<String>>,
}

#[pyclass(frozen)]
struct Parser {
    depth: AtomicUsize,
    scratch: Mutex<Scratch>,
    other: Py<Other>,
    names: Vec<Arc<str>>,
}

#[pyclass(frozen)]
struct Other;

fn local() {
    let cell = RefCell::new(1);
    *cell.borrow_mut() += 1;
}
