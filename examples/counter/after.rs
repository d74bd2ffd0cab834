//! The counter with an atomic in it. The class is frozen: its methods take `&self`, and PyO3 counts no borrows.
//!
//! One number that is changed in one step needs no lock. Two that belong together do: see `account`.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

#[pyclass(frozen)]
struct Counter {
    value: AtomicU64,
}

#[pymethods]
impl Counter {
    #[new]
    fn new() -> Self {
        Counter {
            value: AtomicU64::new(0),
        }
    }

    fn increment(&self) -> u64 {
        // One step. A `load` and a `store` would be two, and lose what another thread adds in between.
        self.value.fetch_add(1, Ordering::Relaxed) + 1
    }

    #[getter]
    fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

#[pymodule(gil_used = false)]
mod counter_after {
    #[pymodule_export]
    use super::Counter;
}
