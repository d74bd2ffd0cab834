//! Differences between Python builds.
//!
//! The rest of the crate branches on these constants and calls these aliases, so that every build
//! compiles every branch. Only two other places read `cfg`s about Python: `critical_section::lock`
//! chooses a type, and `compat` implements a trait for GIL builds only.

#![allow(non_snake_case)] // The aliases keep the names of the C API.

use pyo3::{Borrowed, ffi, prelude::*, types::PyType};

/// Set if several threads can be attached at once: on the free-threaded build and for `abi3t`,
/// which both kinds of interpreter load.
///
/// Otherwise an attached thread owns the GIL, and everything that it does without detaching is
/// atomic for other attached threads.
pub(crate) const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);

#[cfg(Py_3_13)]
pub(crate) use ffi::Py_IsFinalizing;

/// Calls `sys.is_finalizing`, because Python before 3.13 has no public C function.
///
/// # Safety
///
/// The calling thread must be attached.
#[cfg(not(Py_3_13))]
pub(crate) unsafe fn Py_IsFinalizing() -> std::ffi::c_int {
    // SAFETY:
    // - The calling thread is attached. Guaranteed by the caller.
    // - `PySys_GetObject` returns a borrowed reference, which the `sys` module owns.
    // - The result of the call is an owned reference or null. Any exception is cleared.
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

// Up to CPython 3.13.7, a thread that attaches during finalization is ended by `pthread_exit`,
// which unwinds its stack with glibc. PyO3 declares the function as one that unwinds only from 0.29
// on; with an older PyO3 the process would abort here.
#[cfg(unix)]
unsafe extern "C-unwind" {
    #[cfg_attr(PyPy, link_name = "PyPyEval_RestoreThread")]
    pub(crate) fn PyEval_RestoreThread(thread_state: *mut ffi::PyThreadState);
}

/// Other systems end the thread without unwinding. PyO3's declaration follows its link settings.
#[cfg(not(unix))]
pub(crate) use ffi::PyEval_RestoreThread;

/// The type of `_PyOS_IsMainThread`, which returns whether the calling thread, which is attached,
/// runs signal handlers.
pub(crate) type IsMainThread = unsafe extern "C" fn() -> std::ffi::c_int;

/// Set where [`look_up_is_main_thread`] may find the function.
pub(crate) const CAN_LOOK_UP_SYMBOLS: bool = cfg!(all(unix, not(PyPy)));

/// Looks up `_PyOS_IsMainThread`, which CPython 3.9 to 3.15 export.
///
/// At run time, because the function is not part of the stable ABI: an `abi3` extension that links
/// it could not be loaded by an interpreter without it.
#[cfg(unix)]
pub(crate) fn look_up_is_main_thread() -> Option<IsMainThread> {
    // SAFETY: the name ends with a null byte.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyOS_IsMainThread".as_ptr()) };
    // SAFETY: every version that exports this name declares it with this type, and null is `None`.
    unsafe { std::mem::transmute::<*mut std::ffi::c_void, Option<IsMainThread>>(symbol) }
}

#[cfg(not(unix))]
pub(crate) fn look_up_is_main_thread() -> Option<IsMainThread> {
    None
}

/// Returns the state of the calling thread, attached or detached; null if it never attached.
#[cfg(Py_GIL_DISABLED)]
pub(crate) use ffi::PyGILState_GetThisThreadState;

/// Returns null. GIL builds do not need the state, and PyPy lacks the function.
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) unsafe fn PyGILState_GetThisThreadState() -> *mut ffi::PyThreadState {
    std::ptr::null_mut()
}

// Critical sections, as the free-threaded build has them.
#[cfg(Py_GIL_DISABLED)]
pub(crate) use ffi::{
    PyCriticalSection, PyCriticalSection_Begin, PyCriticalSection_End, PyCriticalSection2,
    PyCriticalSection2_Begin, PyCriticalSection2_End,
};

/// Critical sections on GIL builds: empty, like the C macros.
#[cfg(not(Py_GIL_DISABLED))]
mod no_critical_sections {
    use super::ffi::PyObject;

    pub(crate) struct PyCriticalSection;
    pub(crate) struct PyCriticalSection2;

    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection_Begin(_: *mut PyCriticalSection, _: *mut PyObject) {}
    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection_End(_: *mut PyCriticalSection) {}
    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection2_Begin(
        _: *mut PyCriticalSection2,
        _: *mut PyObject,
        _: *mut PyObject,
    ) {
    }
    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection2_End(_: *mut PyCriticalSection2) {}
}
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) use no_critical_sections::*;

// Sections on a mutex without an object. PyO3 before 0.28 does not declare them.
#[cfg(all(PyCriticalSection_BeginMutex, unix))]
unsafe extern "C" {
    pub(crate) fn PyCriticalSection_BeginMutex(section: *mut PyCriticalSection, mutex: *mut u8);
    pub(crate) fn PyCriticalSection2_BeginMutex(
        section: *mut PyCriticalSection2,
        first: *mut u8,
        second: *mut u8,
    );
}

/// Uses PyO3's declaration, which follows its link settings. The mutex is a byte, as in CPython.
#[cfg(all(PyCriticalSection_BeginMutex, not(unix)))]
mod sections_on_mutexes {
    use super::{PyCriticalSection, PyCriticalSection2, ffi};

    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection_BeginMutex(
        section: *mut PyCriticalSection,
        mutex: *mut u8,
    ) {
        // SAFETY: the preconditions are the same. Guaranteed by the caller.
        unsafe { ffi::PyCriticalSection_BeginMutex(section, mutex.cast()) }
    }

    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection2_BeginMutex(
        section: *mut PyCriticalSection2,
        first: *mut u8,
        second: *mut u8,
    ) {
        // SAFETY: the preconditions are the same. Guaranteed by the caller.
        unsafe { ffi::PyCriticalSection2_BeginMutex(section, first.cast(), second.cast()) }
    }
}
#[cfg(all(PyCriticalSection_BeginMutex, not(unix)))]
pub(crate) use sections_on_mutexes::*;

/// Replaces functions that this build lacks, and that its `SectionLock` never calls.
#[cfg(not(PyCriticalSection_BeginMutex))]
mod no_sections_on_mutexes {
    use super::{PyCriticalSection, PyCriticalSection2};

    pub(crate) unsafe fn PyCriticalSection_BeginMutex(_: *mut PyCriticalSection, _: *mut u8) {
        unreachable!("this Python has no critical sections on mutexes")
    }

    pub(crate) unsafe fn PyCriticalSection2_BeginMutex(
        _: *mut PyCriticalSection2,
        _: *mut u8,
        _: *mut u8,
    ) {
        unreachable!("this Python has no critical sections on mutexes")
    }
}
#[cfg(not(PyCriticalSection_BeginMutex))]
pub(crate) use no_sections_on_mutexes::*;

/// Returns the module that a class was created with, if any. The stable ABI has this since 3.10.
#[cfg(PyType_GetModule)]
pub(crate) fn module_of_type<'a, 'py>(
    class: &'a Bound<'py, PyType>,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY:
    // - The calling thread is attached, and `class` is a class, by the `Bound`.
    // - The function is called for heap types only, because static types store no module. If a
    //   heap type has none, it raises an exception, which is cleared.
    // - The result is borrowed from the class.
    unsafe {
        if ffi::PyType_GetFlags(class.as_type_ptr()) & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
            return None;
        }
        let module = ffi::PyType_GetModule(class.as_type_ptr());
        if module.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(Borrowed::from_ptr(class.py(), module))
    }
}

#[cfg(not(PyType_GetModule))]
pub(crate) fn module_of_type<'a, 'py>(
    _: &'a Bound<'py, PyType>,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    None
}

/// Set where a process can have several interpreters, at once or one after another. PyPy has one.
pub(crate) const SEVERAL_INTERPRETERS: bool = cfg!(not(PyPy));

/// Returns the dictionary of the current interpreter for the data of extensions.
///
/// Python code cannot access it.
#[cfg(not(PyPy))]
pub(crate) fn interpreter_dictionary(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY:
    // - The calling thread is attached, by the token, and so has an interpreter.
    // - The result is borrowed from the interpreter, or null without an exception.
    unsafe {
        let dictionary = ffi::PyInterpreterState_GetDict(ffi::PyInterpreterState_Get());
        Bound::from_borrowed_ptr_or_opt(py, dictionary)
    }
}

#[cfg(PyPy)]
pub(crate) fn interpreter_dictionary(_: Python<'_>) -> Option<Bound<'_, PyAny>> {
    None
}
