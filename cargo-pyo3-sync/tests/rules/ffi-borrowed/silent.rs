use pyo3::{ffi, prelude::*, types::PyDict};
use pyo3_sync::critical_section::with_critical_section;

#[pyfunction]
fn count(dict: &Bound<'_, PyDict>) -> usize {
    with_critical_section(dict.as_any(), || {
        let (mut count, mut position, mut value) = (0, 0, std::ptr::null_mut());
        while unsafe { ffi::PyDict_Next(dict.as_ptr(), &mut position, std::ptr::null_mut(), &mut value) } != 0 {
            count += 1;
        }
        count
    })
}

unsafe fn first(tuple: *mut ffi::PyObject) -> *mut ffi::PyObject {
    unsafe { ffi::PyTuple_GET_ITEM(tuple, 0) }
}

/// The list is made for whoever asks, or is it?
unsafe fn unit(dtype: *mut ffi::PyObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let description = unsafe { ffi::PyObject_GetAttr(dtype, name) };
    unsafe { ffi::PyList_GET_ITEM(description, 0) }
}
