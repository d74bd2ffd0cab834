//! What differs between the Pythons this crate is built for: the only file that reads `cfg`s about Python.
//!
//! The rest of the crate branches on these constants and calls these aliases, so that every build compiles
//! every branch, and an algorithm can be read in one piece.

#![allow(non_snake_case)] // The aliases keep the names of the C API.

use pyo3::ffi;

/// Whether several threads can be attached to the interpreter at once: the free-threaded build, and `abi3t`,
/// which loads in both kinds of interpreter and so must be ready for the harder one.
///
/// Where this is false, "attached" means "owns the GIL", and whatever an attached thread does between two
/// detachments is atomic for every other attached thread.
pub(crate) const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);

#[cfg(Py_3_13)]
pub(crate) use ffi::Py_IsFinalizing;

/// Before Python 3.13 the question has no public function in C; `sys.is_finalizing` answers it.
///
/// # Safety
///
/// The calling thread is attached.
#[cfg(not(Py_3_13))]
pub(crate) unsafe fn Py_IsFinalizing() -> std::ffi::c_int {
    // SAFETY: attached, says the caller. `PySys_GetObject` lends a reference that the `sys` module owns; the
    // result of the call, if there is one, is ours to drop, and no exception it leaves stays behind.
    unsafe {
        let is_finalizing = ffi::PySys_GetObject(c"is_finalizing".as_ptr());
        if is_finalizing.is_null() {
            return 1; // Only an interpreter that has cleared its `sys` module lacks the function.
        }
        let result = ffi::PyObject_CallObject(is_finalizing, std::ptr::null_mut());
        let answer = result.is_null() || result == ffi::Py_True();
        ffi::PyErr_Clear();
        ffi::Py_XDECREF(result);
        answer.into()
    }
}

// Before Python 3.14, a thread that attaches while the interpreter is finalising is ended by `pthread_exit`,
// which unwinds its stack. PyO3 declares the function as one that unwinds only from 0.29 on; with an older PyO3
// the process would abort here.
#[cfg(unix)]
unsafe extern "C-unwind" {
    #[cfg_attr(PyPy, link_name = "PyPyEval_RestoreThread")]
    pub(crate) fn PyEval_RestoreThread(thread_state: *mut ffi::PyThreadState);
}

/// Elsewhere a thread is ended without unwinding, and PyO3's declaration links as PyO3 was told to link.
#[cfg(not(unix))]
pub(crate) use ffi::PyEval_RestoreThread;
