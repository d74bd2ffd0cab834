use std::{rc::Rc, sync::Mutex};

use pyo3::prelude::*;

struct Whole(Rc<String>);

// SAFETY: all clones of the `Rc` stay inside, and move together.
unsafe impl Send for Whole {}

#[pyclass(frozen)]
struct Parser(Mutex<Whole>);

#[pyclass(frozen)]
struct Buffer {
    start: *mut u8,
}

// SAFETY: the memory is never written to, and belongs to this object.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}
