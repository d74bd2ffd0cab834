//! PyO3, as far as the state machines name it. Only the token, and leaving and entering the interpreter, do anything.

#![allow(clippy::missing_safety_doc, non_snake_case)]

use std::marker::PhantomData;

use self::ffi::PyObject;
use crate::interpreter;

#[derive(Clone, Copy)]
pub struct Python<'py>(PhantomData<(&'py (), *mut ())>);

impl Python<'_> {
    pub unsafe fn assume_attached() -> Self {
        Python(PhantomData)
    }

    pub fn try_attach<R>(f: impl FnOnce(Python<'_>) -> R) -> Option<R> {
        Some(interpreter::attach(f))
    }

    pub fn check_signals(self) -> PyResult<()> {
        if interpreter::has_signal() {
            return Err(PyErr);
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct PyErr;
pub type PyResult<T> = Result<T, PyErr>;

pub struct PyAny;
pub struct PyModule;
pub struct PyList;

pub struct Bound<'py, T>(*mut PyObject, PhantomData<(&'py (), T)>);

impl<'py, T> Bound<'py, T> {
    /// Something to tell objects apart by.
    pub fn with_address(address: usize) -> Self {
        Bound(std::ptr::without_provenance_mut(address), PhantomData)
    }

    pub fn as_ptr(&self) -> *mut PyObject {
        self.0
    }

    pub fn py(&self) -> Python<'py> {
        // SAFETY: the thread that has a `Bound` is attached.
        unsafe { Python::assume_attached() }
    }
}

/// There is no object to be had.
impl<'py> Bound<'py, PyAny> {
    pub unsafe fn from_borrowed_ptr_or_err(_: Python<'py>, _: *mut PyObject) -> PyResult<Self> {
        Err(PyErr)
    }

    pub fn getattr(&self, _: &str) -> PyResult<Self> {
        Err(PyErr)
    }

    pub fn getattr_opt(&self, _: &str) -> PyResult<Option<Self>> {
        Err(PyErr)
    }

    pub fn get_item(&self, _: &str) -> PyResult<Self> {
        Err(PyErr)
    }

    pub fn extract<T>(&self) -> PyResult<T> {
        Err(PyErr)
    }

    pub fn len(&self) -> PyResult<usize> {
        Err(PyErr)
    }

    pub fn is_empty(&self) -> PyResult<bool> {
        Err(PyErr)
    }

    pub fn call0(&self) -> PyResult<Self> {
        Err(PyErr)
    }

    pub fn call_method0(&self, _: &str) -> PyResult<Self> {
        Err(PyErr)
    }

    pub fn call_method1<A>(&self, _: &str, _: A) -> PyResult<Self> {
        Err(PyErr)
    }

    pub fn try_iter(&self) -> PyResult<std::iter::Empty<PyResult<Self>>> {
        Err(PyErr)
    }

    pub fn is_none(&self) -> bool {
        true
    }

    pub fn is_callable(&self) -> bool {
        false
    }

    pub fn cast_into<T>(self) -> Result<Bound<'py, T>, CastIntoError<'py>> {
        Err(CastIntoError(self))
    }
}

pub struct CastIntoError<'py>(Bound<'py, PyAny>);

impl<'py> CastIntoError<'py> {
    pub fn into_inner(self) -> Bound<'py, PyAny> {
        self.0
    }
}

impl<'py> Bound<'py, PyList> {
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        0
    }

    pub fn get_item(&self, _: usize) -> PyResult<Bound<'py, PyAny>> {
        Err(PyErr)
    }
}

pub mod prelude {
    pub use super::{Bound, PyAny, PyErr, PyModule, PyResult, Python, ffi};
}

pub mod exceptions {
    pub struct PyRuntimeError;

    impl PyRuntimeError {
        pub fn new_err(_: String) -> super::PyErr {
            super::PyErr
        }
    }
}

pub mod pyclass {
    use std::marker::PhantomData;

    /// What a collector brings along when it traverses an object.
    pub struct PyVisit<'a>(PhantomData<&'a ()>);

    impl PyVisit<'_> {
        /// With the world stopped, or the GIL.
        #[allow(clippy::new_without_default)]
        pub fn new() -> Self {
            PyVisit(PhantomData)
        }
    }
}

pub mod types {
    pub use super::PyList;
}

pub mod ffi {
    use std::ptr;

    use crate::interpreter;

    pub struct PyObject;
    pub struct PyThreadState;

    pub unsafe fn PyEval_SaveThread() -> *mut PyThreadState {
        interpreter::detach_thread();
        ptr::null_mut()
    }

    pub unsafe fn PyEval_RestoreThread(_: *mut PyThreadState) {
        interpreter::attach_thread();
    }

    pub unsafe fn Py_IsFinalizing() -> i32 {
        interpreter::is_finalizing().into()
    }

    pub unsafe fn PyErr_Fetch(_: *mut *mut PyObject, _: *mut *mut PyObject, _: *mut *mut PyObject) {
    }

    pub unsafe fn PyErr_Restore(_: *mut PyObject, _: *mut PyObject, _: *mut PyObject) {}

    pub unsafe fn PyImport_GetModuleDict() -> *mut PyObject {
        ptr::null_mut()
    }
}
