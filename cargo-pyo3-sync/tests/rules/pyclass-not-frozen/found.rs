use pyo3::prelude::*;

#[pyclass] //~ pyclass-not-frozen
struct Text(String);

#[pymethods]
impl Text {
    fn len(&self) -> usize {
        self.0.len()
    }
}

#[pyclass(eq, eq_int)] //~ pyclass-not-frozen
#[derive(PartialEq)]
enum Kind {
    One,
    Two,
}
