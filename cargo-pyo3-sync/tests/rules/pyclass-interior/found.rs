use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use pyo3::prelude::*;

struct Warnings {
    list: RefCell<Vec<String>>,
}

struct Extra {
    warnings: Warnings,
}

#[pyclass(frozen)]
struct Parser {
    depth: Cell<usize>, //~ pyclass-interior
    names: Vec<Rc<str>>, //~ pyclass-interior
    extra: Extra, //~ pyclass-interior
}

#[cfg_attr(feature = "python", pyclass(frozen))]
struct Tagged(Option<RefCell<u8>>); //~ pyclass-interior
