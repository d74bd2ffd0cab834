//! The interpreter: calls that several modules need, and what differs between builds.
//!
//! This module depends on no other one of the crate.

mod build;

use core::ffi::{c_int, c_void};
use std::{
    mem, ptr,
    sync::atomic::{AtomicPtr, Ordering},
    thread,
    time::Duration,
};

use pyo3::{ffi, prelude::*};

pub(crate) use self::build::*;

/// Runs `sleep` while this thread is detached from the interpreter.
///
/// Does not use [`Python::detach`], because PyO3 then drops references of detached threads when it
/// attaches, and so runs finalizers in the middle of the protocol. PyO3's attach count stays valid,
/// because no code of PyO3 runs in between.
///
/// During finalization this function returns on the finalizing thread only. On the others attaching
/// blocks until the process ends, in CPython 3.13.8, 3.14 and later. Earlier versions end the
/// thread. With glibc that unwinds the stack, and [`HangOnUnwind`] blocks it.
/// Elsewhere no destructor runs.
pub(crate) fn detached<R>(_py: Python<'_>, sleep: impl FnOnce() -> R) -> R {
    struct Attach(*mut ffi::PyThreadState);
    impl Drop for Attach {
        fn drop(&mut self) {
            let hang = HangOnUnwind;
            // SAFETY:
            // - `PyEval_SaveThread` returned the state on this thread.
            // - The thread has not attached since: `sleep` has no token and calls neither Python
            //   nor PyO3.
            unsafe { PyEval_RestoreThread(self.0) };
            std::mem::forget(hang);
        }
    }

    // SAFETY:
    // - This thread is attached, by the token.
    // - No `Bound`, borrowed reference or guard is used until `Attach` is dropped, which precedes
    //   the return to the caller.
    let _attach = Attach(unsafe { ffi::PyEval_SaveThread() });
    sleep()
}

/// Sleeps for `duration`, detached.
pub(crate) fn sleep_detached(py: Python<'_>, duration: Duration) {
    detached(py, || thread::sleep(duration));
}

/// Blocks the thread if attaching unwinds instead of returning.
///
/// Unwinding further would run destructors that assume that the thread is attached.
struct HangOnUnwind;

impl Drop for HangOnUnwind {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// Returns whether the interpreter is finalizing.
///
/// If so, the calling thread is the finalizing thread, and no other thread can attach again:
/// CPython stops all attached threads before it reports finalization.
pub(crate) fn is_finalizing(py: Python<'_>) -> bool {
    // SAFETY: this thread is attached, by the token.
    exception_aside(py, || unsafe { Py_IsFinalizing() != 0 })
}

/// Returns whether the calling thread runs signal handlers, as the main thread does.
///
/// Calls the C API: up to Python 3.12, `threading` considers the thread that first imports it the
/// main thread. Returns `true` if the function is missing, because unneeded polling is cheap.
pub(crate) fn may_handle_signals(py: Python<'_>) -> bool {
    /// An [`IsMainThread`]; null before the first call.
    static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

    if !CAN_LOOK_UP_SYMBOLS {
        return true;
    }
    // Relaxed: nothing else is published, and racing threads store the same value.
    let mut function = FUNCTION.load(Ordering::Relaxed);
    if function.is_null() {
        // Detached, because the dynamic linker holds its lock while it runs the initializers of
        // libraries, which may attach.
        let found = detached(py, || look_up_is_main_thread().unwrap_or(unknown));
        function = found as *mut c_void;
        FUNCTION.store(function, Ordering::Relaxed);
    }
    // SAFETY: the pointer was cast from a function of this type, above.
    let is_main_thread = unsafe { mem::transmute::<*mut c_void, IsMainThread>(function) };
    // SAFETY: this thread is attached, by the token.
    unsafe { is_main_thread() != 0 }
}

/// Replaces a missing `_PyOS_IsMainThread`.
unsafe extern "C" fn unknown() -> c_int {
    1
}

/// Returns a module that is already imported.
///
/// Does not import it, because `builtins.__import__` may be replaced by code that uses the crate.
pub(crate) fn loaded_module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY:
    // - This thread is attached, by the token.
    // - The result is null or borrowed from the interpreter.
    let modules = unsafe { Bound::from_borrowed_ptr_or_err(py, ffi::PyImport_GetModuleDict())? };
    modules.get_item(name)
}

/// Saves the pending exception, runs `f`, and restores the exception (invariant I13).
///
/// Destructors acquire locks, and CPython runs destructors while an exception is pending. Calling
/// Python code in that state is an error, and a new exception would replace the pending one.
// Deprecated since Python 3.12, but the only functions that all versions have.
#[allow(deprecated)]
pub(crate) fn exception_aside<R>(_py: Python<'_>, f: impl FnOnce() -> R) -> R {
    struct Restore([*mut ffi::PyObject; 3]);
    impl Drop for Restore {
        fn drop(&mut self) {
            let [kind, value, traceback] = self.0;
            // SAFETY:
            // - This thread is attached: the token of `exception_aside` outlives `self`.
            // - `PyErr_Fetch` returned the references, which are passed back only once.
            unsafe { ffi::PyErr_Restore(kind, value, traceback) };
        }
    }
    let [mut kind, mut value, mut traceback] = [std::ptr::null_mut(); 3];
    // SAFETY:
    // - This thread is attached, by the token.
    // - The pointers refer to locals.
    unsafe { ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback) };
    let _restore = Restore([kind, value, traceback]);
    f()
}
