use pyo3::{ffi, prelude::*, types::PyList};

#[pyfunction]
fn length_of_first(list: &Bound<'_, PyList>) -> isize {
    unsafe {
        let item = ffi::PyList_GET_ITEM(list.as_ptr(), 0); //~ ffi-borrowed
        ffi::PyObject_Length(item)
    }
}

unsafe fn walk(dict: *mut ffi::PyObject) {
    let (mut position, mut value) = (0, std::ptr::null_mut());
    while unsafe { pyo3_ffi::PyDict_Next(dict, &mut position, std::ptr::null_mut(), &mut value) } != 0 {} //~ ffi-borrowed
}

unsafe fn first_of_attributes(object: *mut ffi::PyObject, name: *mut ffi::PyObject, __dict__: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let attributes = unsafe { ffi::PyObject_GetAttr(object, __dict__) };
    unsafe { ffi::PyDict_GetItem(attributes, name) } //~ ffi-borrowed
}
