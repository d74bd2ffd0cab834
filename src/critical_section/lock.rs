//! What a critical section is held on when it is not held on an object of the caller's.
//!
//! Three kinds, of which `build_config` chooses one:
//!
//! | build | kind |
//! |---|---|
//! | with a GIL | [`NoLock`]: the GIL is what a section would be |
//! | free-threaded, Python 3.14 and later, full API | [`MutexLock`]: one of CPython's mutexes, a byte |
//! | free-threaded 3.13, `abi3t` | [`ObjectLock`]: an object that exists for its mutex, made on first use |

#![allow(dead_code, reason = "each build uses one of the three")]

use std::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU8, Ordering},
};

use pyo3::{ffi, prelude::*};

use crate::build_config::{
    PyCriticalSection, PyCriticalSection_Begin, PyCriticalSection_BeginMutex, PyCriticalSection2,
    PyCriticalSection2_Begin, PyCriticalSection2_BeginMutex,
};

/// See [`super::section`], for which all three have the same methods:
///
/// - `begin` writes a section to `section`, which need not be initialised, and enters it. The section must be ended, by the same
///   thread, attached, and last entered, first ended; until then it must not move, and `self` must live.
/// - `begin_two` does so for two locks that are not the same one.
pub(crate) struct NoLock;

impl NoLock {
    pub(crate) const fn new() -> Self {
        NoLock
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, _: Python<'_>, _: *mut PyCriticalSection) {}

    #[inline(always)]
    pub(super) unsafe fn begin_two(&self, _: &Self, _: Python<'_>, _: *mut PyCriticalSection2) {}
}

/// A `PyMutex` of CPython's: all zero when it is free. Only critical sections lock it.
pub(crate) struct MutexLock(AtomicU8);

impl MutexLock {
    pub(crate) const fn new() -> Self {
        MutexLock(AtomicU8::new(0))
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, _: Python<'_>, section: *mut PyCriticalSection) {
        // SAFETY: attached, by the token; the caller gives the section room and ends it; the mutex is a byte of zero
        // that CPython alone changes, and does not move while it is borrowed.
        unsafe { PyCriticalSection_BeginMutex(section, self.0.as_ptr()) }
    }

    #[inline(always)]
    pub(super) unsafe fn begin_two(
        &self,
        other: &Self,
        _: Python<'_>,
        section: *mut PyCriticalSection2,
    ) {
        // SAFETY: as in `begin`, for both.
        unsafe { PyCriticalSection2_BeginMutex(section, self.0.as_ptr(), other.0.as_ptr()) }
    }
}

/// An object that nobody else knows, or null before it is needed.
///
/// In a box of its own, because a pointer can be exchanged atomically and a [`Py`] cannot.
pub(crate) struct ObjectLock(AtomicPtr<Py<PyAny>>);

impl ObjectLock {
    pub(crate) const fn new() -> Self {
        ObjectLock(AtomicPtr::new(ptr::null_mut()))
    }

    fn object(&self, py: Python<'_>) -> *mut ffi::PyObject {
        // Acquire: the box is initialised by the thread that stored it.
        let mut object = self.0.load(Ordering::Acquire);
        if object.is_null() {
            object = self.make_object(py);
        }
        // SAFETY: not null, so it came from `make_object`, and it is freed only with `self`.
        unsafe { &*object }.as_ptr()
    }

    #[cold]
    fn make_object(&self, py: Python<'_>) -> *mut Py<PyAny> {
        // This may run the garbage collector and with it any code, which may come here too: whoever stores first wins.
        // SAFETY: attached, by the token; `object` is a type, and `object()` a new reference or null.
        let made = unsafe {
            let object_type = (&raw mut ffi::PyBaseObject_Type).cast();
            let object = ffi::PyObject_CallObject(object_type, ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, object)
        };
        let made = made.expect("memory for an object to hold a critical section on");
        let made = Box::into_raw(Box::new(made.unbind()));
        // Release for the box, acquire for the one of another thread.
        let stored =
            self.0
                .compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
        match stored {
            Ok(_) => made,
            Err(first) => {
                // SAFETY: it was not stored, so it is still ours.
                drop(unsafe { Box::from_raw(made) });
                first
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, py: Python<'_>, section: *mut PyCriticalSection) {
        // SAFETY: attached, by the token; the caller gives the section room and ends it; the object lives as long as `self`.
        unsafe { PyCriticalSection_Begin(section, self.object(py)) }
    }

    #[inline(always)]
    pub(super) unsafe fn begin_two(
        &self,
        other: &Self,
        py: Python<'_>,
        section: *mut PyCriticalSection2,
    ) {
        // SAFETY: as in `begin`, for both.
        unsafe { PyCriticalSection2_Begin(section, self.object(py), other.object(py)) }
    }
}

impl Drop for ObjectLock {
    fn drop(&mut self) {
        let object = *self.0.get_mut();
        if !object.is_null() {
            // SAFETY: it came from `Box::into_raw` in `make_object`, and nobody uses it any more. Dropping the `Py` needs no
            // token: PyO3 puts the reference aside if this thread is not attached.
            drop(unsafe { Box::from_raw(object) });
        }
    }
}
