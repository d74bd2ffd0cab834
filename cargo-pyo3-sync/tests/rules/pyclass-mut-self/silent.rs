use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

#[pyclass(frozen)]
struct Counter {
    value: AtomicU64,
}

#[pymethods]
impl Counter {
    fn increment(&self) -> u64 {
        self.value.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Counter {
    // Not called by Python.
    fn reset(&mut self) {
        self.value = AtomicU64::new(0);
    }
}

struct Plain {
    value: u64,
}

impl Plain {
    fn increment(&mut self) {
        self.value += 1;
    }
}
