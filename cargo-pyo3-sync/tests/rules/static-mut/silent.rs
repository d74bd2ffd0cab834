use std::sync::atomic::AtomicU64;

use pyo3::{ffi, prelude::*};

static CALLS: AtomicU64 = AtomicU64::new(0);

// CPython writes to its tables when the module is made.
static mut MODULE: ffi::PyModuleDef = unsafe { std::mem::zeroed() };
static mut METHODS: [ffi::PyMethodDef; 2] = unsafe { std::mem::zeroed() };

// Set when the module is made, and read from then on.
static mut TYPE: *mut ffi::PyTypeObject = std::ptr::null_mut();

#[pymodule(gil_used = false)]
fn extension(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    unsafe { TYPE = &raw mut ffi::PyUnicode_Type };
    Ok(())
}

#[pyfunction]
fn is_set() -> bool {
    unsafe { !TYPE.is_null() }
}

#[cfg(test)]
mod tests {
    static mut COUNT: u32 = 0;
}
