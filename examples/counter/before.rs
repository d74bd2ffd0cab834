//! A counter whose methods want `&mut self`. PyO3 lends that to one caller at a time and refuses the others; with the GIL there were no
//! others.

use pyo3::prelude::*;

#[pyclass]
struct Counter {
    value: u64,
}

#[pymethods]
impl Counter {
    #[new]
    fn new() -> Self {
        Counter { value: 0 }
    }

    fn increment(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    #[getter]
    fn value(&self) -> u64 {
        self.value
    }
}

#[pymodule(gil_used = false)]
mod counter_before {
    #[pymodule_export]
    use super::Counter;
}
