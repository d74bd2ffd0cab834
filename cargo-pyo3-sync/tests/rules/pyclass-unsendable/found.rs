use pyo3::prelude::*;

#[pyclass(unsendable)] //~ pyclass-unsendable
struct Window {
    raw: *mut u8,
}
