//! Leaving the interpreter for the length of a wait, and coming back.

use core::ffi::{c_int, c_void};
use std::{
    mem, ptr,
    sync::atomic::{AtomicPtr, Ordering},
    thread,
    time::Duration,
};

use pyo3::{ffi, prelude::*};

use crate::build_config::{
    CAN_LOOK_UP_SYMBOLS, IsMainThread, Py_IsFinalizing, PyEval_RestoreThread,
    look_up_is_main_thread,
};

/// Runs `sleep` while this thread is detached from the interpreter.
///
/// The raw pair of functions rather than [`Python::detach`]: when PyO3 re-attaches it also drops the references
/// that were given up by detached threads, which runs finalisers, that is arbitrary code, in the middle of our
/// protocol. Nothing of PyO3 runs between the two calls, so its own count of attachments can stay as it is.
///
/// During finalization this function returns on the finalizing thread only. On the others attaching
/// blocks until the process ends, in CPython 3.13.8, 3.14 and later. Earlier versions end the
/// thread. With glibc that unwinds the stack, and [`Hang`] blocks it. Elsewhere no destructor runs.
pub(super) fn detached<R>(_py: Python<'_>, sleep: impl FnOnce() -> R) -> R {
    struct Attach(*mut ffi::PyThreadState);
    impl Drop for Attach {
        fn drop(&mut self) {
            let hang = Hang;
            // SAFETY: the state is the one that `PyEval_SaveThread` took from this thread, which has not attached
            // since: `sleep` got no token, and no code of Python's or PyO3's runs in it.
            unsafe { PyEval_RestoreThread(self.0) };
            std::mem::forget(hang);
        }
    }

    // SAFETY: the token proves that this thread is attached. No `Bound`, borrowed reference or guard is touched
    // until `Attach` is dropped, which happens before the caller gets its token's use back.
    let _attach = Attach(unsafe { ffi::PyEval_SaveThread() });
    sleep()
}

/// Sleeps, detached.
pub(crate) fn sleep_detached(py: Python<'_>, duration: Duration) {
    detached(py, || thread::sleep(duration));
}

/// Keeps a thread for ever when it is dropped, that is, when attaching unwinds instead of returning.
///
/// The frames below may hold anything; unwinding them would run destructors that believe to be attached.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// Whether the interpreter is shutting down.
///
/// If it is, the calling thread is the one that does it, and no other thread will ever attach again: CPython stops
/// all attached threads before it says so, and lets none back in.
pub(crate) fn is_finalizing(py: Python<'_>) -> bool {
    // SAFETY: the token proves that this thread is attached.
    exception_aside(py, || unsafe { Py_IsFinalizing() != 0 })
}

/// Returns whether the calling thread runs signal handlers, as the main thread does.
///
/// Asks the C API, because up to Python 3.12 `threading` takes the thread that imports it first for
/// the main one. Returns `true` if the C API does not answer: unneeded polling costs little.
pub(super) fn may_handle_signals(py: Python<'_>) -> bool {
    /// An [`IsMainThread`]; null before the first call.
    static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

    if !CAN_LOOK_UP_SYMBOLS {
        return true;
    }
    // Relaxed: nothing else is published, and threads that look it up at once store the same.
    let mut function = FUNCTION.load(Ordering::Relaxed);
    if function.is_null() {
        // Detached, because the dynamic linker holds its lock while it runs the initializers of
        // libraries, which may attach.
        let found = detached(py, || look_up_is_main_thread().unwrap_or(unknown));
        function = found as *mut c_void;
        FUNCTION.store(function, Ordering::Relaxed);
    }
    // SAFETY: the pointer was made from a function of this type, above.
    let is_main_thread = unsafe { mem::transmute::<*mut c_void, IsMainThread>(function) };
    // SAFETY: the calling thread is attached, by the token.
    unsafe { is_main_thread() != 0 }
}

/// The answer of an interpreter that cannot be asked.
unsafe extern "C" fn unknown() -> c_int {
    1
}

/// A module that is imported already. To import one would call whatever `__import__` is in `builtins`, that is, in the worst
/// case, code that comes back here.
pub(crate) fn loaded_module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached, by the token. The dictionary is borrowed from the interpreter, and made a reference of our own.
    let modules = unsafe { Bound::from_borrowed_ptr_or_err(py, ffi::PyImport_GetModuleDict())? };
    modules.get_item(name)
}

/// Runs `f`, which may call into Python, with no exception pending, and sets the one that was again.
///
/// Locks are taken in destructors too, and CPython runs those while an exception is on its way up the stack. To
/// call Python code in that state is an error, and whatever the code raises would replace the exception.
// Deprecated from Python 3.12 on, and the only pair that all versions have.
#[allow(deprecated)]
pub(crate) fn exception_aside<R>(_py: Python<'_>, f: impl FnOnce() -> R) -> R {
    struct Restore([*mut ffi::PyObject; 3]);
    impl Drop for Restore {
        fn drop(&mut self) {
            let [kind, value, traceback] = self.0;
            // SAFETY: attached, since the token of `exception_aside` outlives this; the three references are
            // those that `PyErr_Fetch` gave us, and they are given back once.
            unsafe { ffi::PyErr_Restore(kind, value, traceback) };
        }
    }
    let [mut kind, mut value, mut traceback] = [std::ptr::null_mut(); 3];
    // SAFETY: attached, by the token; the pointers are to locals.
    unsafe { ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback) };
    let _restore = Restore([kind, value, traceback]);
    f()
}
