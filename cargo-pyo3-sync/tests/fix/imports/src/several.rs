use std::cell::RefCell;

#[cfg(not(target_arch = "wasm32"))]
use pyo3::sync::{GILOnceCell, GILProtected};
use pyo3::Python;

static CELL: GILOnceCell<u8> = GILOnceCell::new();
static NAMES: GILProtected<RefCell<Vec<String>>> = GILProtected::new(RefCell::new(Vec::new()));

mod inner {
    use pyo3::sync::{GILOnceCell, GILProtected, MutexExt};

    pub(super) static CELL: GILOnceCell<u8> = GILOnceCell::new();
    pub(super) static NUMBER: GILProtected<std::cell::Cell<u8>> = GILProtected::new(std::cell::Cell::new(0));

    pub(super) fn take(py: super::Python<'_>, lock: &std::sync::Mutex<u8>) -> u8 {
        *lock.lock_py_attached(py).unwrap()
    }
}

fn all(py: Python<'_>, lock: &std::sync::Mutex<u8>) -> Option<u8> {
    NAMES.get(py).borrow_mut().push(String::new());
    Some(*CELL.get(py)? + *inner::CELL.get(py)? + inner::NUMBER.get(py).get() + inner::take(py, lock))
}
