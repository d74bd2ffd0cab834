use pyo3::prelude::*;

// pyo3-sync: allow(pyclass-unsendable) a window belongs to the thread of the graphics library
#[pyclass(unsendable)]
struct Window {
    raw: *mut u8,
}

#[pyclass(frozen)]
struct Text(String);
