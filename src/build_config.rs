//! What differs between the Pythons this crate is built for: the only file that reads `cfg`s about Python.
//!
//! The rest of the crate branches on these constants and calls these aliases, so that every build compiles
//! every branch, and an algorithm can be read in one piece.

#![allow(non_snake_case)] // The aliases keep the names of the C API.

use pyo3::{Borrowed, ffi, prelude::*, types::PyType};

/// Whether several threads can be attached to the interpreter at once: the free-threaded build, and `abi3t`,
/// which loads in both kinds of interpreter and so must be ready for the harder one.
///
/// Where this is false, "attached" means "owns the GIL", and whatever an attached thread does between two
/// detachments is atomic for every other attached thread.
pub(crate) const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);

#[cfg(not(Py_GIL_DISABLED))]
impl<T: ?Sized> crate::compat::ProtectedByTheGil for T {}
#[cfg(not(Py_GIL_DISABLED))]
impl<T: ?Sized> crate::compat::sealed::Sealed for T {}

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

// Up to CPython 3.13.7, a thread that attaches during finalization is ended by `pthread_exit`,
// which unwinds its stack with glibc. PyO3 declares the function as one that unwinds only from 0.29
// on; with an older PyO3 the process would abort here.
#[cfg(unix)]
unsafe extern "C-unwind" {
    #[cfg_attr(PyPy, link_name = "PyPyEval_RestoreThread")]
    pub(crate) fn PyEval_RestoreThread(thread_state: *mut ffi::PyThreadState);
}

/// Elsewhere a thread is ended without unwinding, and PyO3's declaration links as PyO3 was told to link.
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

/// The state of the calling thread, attached or detached; null if the thread was never attached.
#[cfg(Py_GIL_DISABLED)]
pub(crate) use ffi::PyGILState_GetThisThreadState;

/// With a GIL there is no use for it, and PyPy does not have it.
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

/// Critical sections where there is a GIL: nothing, as in C, where they are macros that expand to nothing.
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

// Sections on a mutex that belongs to no object; declared here because PyO3 does so only from 0.28 on.
#[cfg(all(PyCriticalSection_BeginMutex, unix))]
unsafe extern "C" {
    pub(crate) fn PyCriticalSection_BeginMutex(section: *mut PyCriticalSection, mutex: *mut u8);
    pub(crate) fn PyCriticalSection2_BeginMutex(
        section: *mut PyCriticalSection2,
        first: *mut u8,
        second: *mut u8,
    );
}

/// With PyO3's declaration, which links as PyO3 was told to link. Its mutex is a byte, as CPython's.
#[cfg(all(PyCriticalSection_BeginMutex, not(unix)))]
mod sections_on_mutexes {
    use super::{PyCriticalSection, PyCriticalSection2, ffi};

    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection_BeginMutex(
        section: *mut PyCriticalSection,
        mutex: *mut u8,
    ) {
        // SAFETY: as the caller promises for the function of the same name.
        unsafe { ffi::PyCriticalSection_BeginMutex(section, mutex.cast()) }
    }

    #[inline(always)]
    pub(crate) unsafe fn PyCriticalSection2_BeginMutex(
        section: *mut PyCriticalSection2,
        first: *mut u8,
        second: *mut u8,
    ) {
        // SAFETY: as above.
        unsafe { ffi::PyCriticalSection2_BeginMutex(section, first.cast(), second.cast()) }
    }
}
#[cfg(all(PyCriticalSection_BeginMutex, not(unix)))]
pub(crate) use sections_on_mutexes::*;

/// For builds that lack the functions, and whose `SectionLock` is none that would call them.
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

#[cfg(all(Py_GIL_DISABLED, PyCriticalSection_BeginMutex))]
pub(crate) use crate::critical_section::lock::MutexLock as SectionLock;
/// What the critical section of a `PyProtected` is held on.
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) use crate::critical_section::lock::NoLock as SectionLock;
#[cfg(all(Py_GIL_DISABLED, not(PyCriticalSection_BeginMutex)))]
pub(crate) use crate::critical_section::lock::ObjectLock as SectionLock;

/// The module that a class was made with, if it was made with one. The stable ABI can be asked from Python 3.10 on.
#[cfg(PyType_GetModule)]
pub(crate) fn module_of_type<'a, 'py>(
    class: &'a Bound<'py, PyType>,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY: attached, since there is a `Bound`, and the class is one. Classes that are not made at run time have no place for a module;
    // for others the function fails if they were made without one, and the exception is not left behind. What it returns is
    // borrowed from the class.
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

/// The dictionary of the interpreter that the calling thread is attached to: for the data of
/// extensions, and out of reach for Python code.
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
