use pyo3::prelude::*;

#[pyclass]
struct Counter { //~ pyclass-mut-self
    value: u64,
}

#[pymethods]
impl Counter {
    fn increment(&mut self) -> u64 {
        self.value += 1;
        self.value
    }
}

#[pyclass]
struct Lines { //~ pyclass-mut-self
    position: usize,
}

#[pymethods]
impl Lines {
    fn __next__(mut slf: PyRefMut<'_, Self>) -> usize {
        slf.position += 1;
        slf.position
    }
}

#[pyclass(get_all, set_all)]
struct Settings { //~ pyclass-mut-self
    depth: u32,
}

#[pyclass]
struct Point { //~ pyclass-mut-self
    #[pyo3(get, set)]
    x: f64,
}
