use pyo3::{sync::GILProtected as Protected, Python};
use std::cell::Cell;

static COUNT: Protected<Cell<usize>> = Protected::new(Cell::new(0));

pub fn count(py: Python<'_>) -> usize {
    COUNT.get(py).get()
}
