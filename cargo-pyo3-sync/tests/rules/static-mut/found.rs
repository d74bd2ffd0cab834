use pyo3::prelude::*;

static mut CALLS: u64 = 0; //~ static-mut

#[pyfunction]
fn call() -> u64 {
    static mut INNER: Vec<String> = Vec::new(); //~ static-mut
    unsafe {
        CALLS += 1;
        CALLS
    }
}

// The module can be made a second time, while others have the first.
static mut TYPE: *mut pyo3::ffi::PyTypeObject = std::ptr::null_mut(); //~ static-mut

#[pymodule(gil_used = false)]
fn extension(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    unsafe { TYPE = &raw mut pyo3::ffi::PyUnicode_Type };
    Ok(())
}

#[pyfunction]
fn is_set() -> bool {
    unsafe { !TYPE.is_null() }
}
