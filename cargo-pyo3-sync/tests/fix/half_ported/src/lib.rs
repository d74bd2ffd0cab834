//! Has PyO3's `PyOnceLock` already, beside the old cell.

#![allow(dead_code)]

mod newer;

use pyo3::sync::{GILOnceCell, PyOnceLock};
use pyo3::Python;

static OLD: GILOnceCell<u8> = GILOnceCell::new();
static NEW: PyOnceLock<u8> = PyOnceLock::new();
static QUALIFIED: pyo3::sync::GILOnceCell<u8> = pyo3::sync::GILOnceCell::new();

mod inner {
    use super::GILOnceCell;

    pub(super) static INNER: GILOnceCell<u8> = GILOnceCell::new();
}

fn both(py: Python<'_>) -> Option<u8> {
    Some(OLD.get(py)? + NEW.get(py)? + QUALIFIED.get(py)? + inner::INNER.get(py)? + newer::get(py)?)
}
