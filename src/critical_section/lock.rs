//! What a critical section is held on when it is not held on an object of the caller's.
//!
//! Three kinds, of which `build_config` chooses one:
//!
//! | build | kind |
//! |---|---|
//! | with a GIL | [`NoLock`]: the GIL is what a section would be |
//! | free-threaded, Python 3.14 and later, full API | [`MutexLock`]: one of CPython's mutexes, a byte |
//! | free-threaded 3.13, `abi3t` | [`ObjectLock`]: an object that exists for its mutex, made on first use |
//!
//! # Fork
//!
//! CPython's mutexes are handed on: a thread that leaves a section for which another one has waited for more than a millisecond
//! makes that thread the owner, asleep and detached as it is. If the process is forked before it has woken up, the mutex is locked in the
//! child by nobody, and whoever wants to enter hangs. (That concerns all objects of Python, where we can do nothing about it.) So each
//! *generation* of processes ([`fork`]) uses another mutex, or another object. A section that was entered before the fork does not
//! keep out those that are entered after it in the child; what changes the borrow flag must be in a section of the present
//! generation, which [`section::GenerationCheck`](super::section::GenerationCheck) sees to.

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
use crate::wait::{fork, is_finalizing};

/// See [`super::section`], for which all three have the same methods:
///
/// - `begin` writes a section to `section`, which need not be initialised, and enters it. The section must be ended, by the same
///   thread, attached, and last entered, first ended; until then it must not move, and `self` must live.
/// - `begin_two` does so for two locks that are not the same one.
/// - `generation` is another one in the child of a fork.
pub(crate) struct NoLock;

impl NoLock {
    pub(crate) const fn new() -> Self {
        NoLock
    }

    #[inline(always)]
    pub(super) fn generation() -> usize {
        0
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, _: Python<'_>, _: *mut PyCriticalSection) {}

    #[inline(always)]
    pub(super) unsafe fn begin_two(&self, _: &Self, _: Python<'_>, _: *mut PyCriticalSection2) {}
}

/// A `PyMutex` of CPython's for each generation: all zero when it is free. Only critical sections lock it.
///
/// As many as there is room for anyway, beside a borrow flag. Children of children of children, six times over, which have not
/// replaced their program, share the last one, and the danger.
///
/// The same may happen at exit: a thread that was handed the mutex does not get back into an interpreter that is shutting down. So the
/// finalising thread, which is the only one left, uses a mutex of its own where it finds the usual one locked.
pub(crate) struct MutexLock {
    mutexes: [AtomicU8; GENERATIONS as usize],
    at_finalisation: AtomicU8,
}

const GENERATIONS: u32 = 7;
/// The bit of a `PyMutex` that says that it is locked (`_Py_LOCKED`, in all versions that have it).
const LOCKED: u8 = 1;

impl MutexLock {
    pub(crate) const fn new() -> Self {
        MutexLock {
            mutexes: [const { AtomicU8::new(0) }; GENERATIONS as usize],
            at_finalisation: AtomicU8::new(0),
        }
    }

    #[inline(always)]
    pub(super) fn generation() -> usize {
        fork::generation::<GENERATIONS>()
    }

    #[inline(always)]
    fn mutex(&self, py: Python<'_>) -> *mut u8 {
        let mutex = &self.mutexes[Self::generation()];
        // Relaxed: a hint. Who is handed the mutex after this look is not the finalising thread.
        if mutex.load(Ordering::Relaxed) & LOCKED != 0 && Self::is_finalizing(py) {
            return self.at_finalisation.as_ptr();
        }
        mutex.as_ptr()
    }

    #[cold]
    fn is_finalizing(py: Python<'_>) -> bool {
        is_finalizing(py)
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, py: Python<'_>, section: *mut PyCriticalSection) {
        // SAFETY: attached, by the token; the caller gives the section room and ends it; the mutex is a byte of zero
        // that CPython alone changes, and does not move while it is borrowed.
        unsafe { PyCriticalSection_BeginMutex(section, self.mutex(py)) }
    }

    #[inline(always)]
    pub(super) unsafe fn begin_two(
        &self,
        other: &Self,
        py: Python<'_>,
        section: *mut PyCriticalSection2,
    ) {
        // SAFETY: as in `begin`, for both.
        unsafe { PyCriticalSection2_BeginMutex(section, self.mutex(py), other.mutex(py)) }
    }
}

/// An object that nobody else knows, or null before it is needed.
///
/// The finalising thread uses an object of its own, for the reason told at [`MutexLock`]; always, since whether an object's mutex is locked
/// is not to be seen from outside.
pub(crate) struct ObjectLock(AtomicPtr<Own>);

/// In a box of its own, because a pointer can be exchanged atomically and a [`Py`] cannot.
struct Own {
    object: Py<PyAny>,
    /// The generation of processes, or [`AT_FINALISATION`](ObjectLock::AT_FINALISATION).
    generation: usize,
    /// That of an older generation, which is kept for sections that were entered before the fork.
    older: *mut Own,
}

impl ObjectLock {
    /// More than the number of any generation.
    const AT_FINALISATION: usize = usize::MAX;

    pub(crate) const fn new() -> Self {
        ObjectLock(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline(always)]
    pub(super) fn generation() -> usize {
        fork::process() as usize
    }

    fn object(&self, py: Python<'_>) -> *mut ffi::PyObject {
        let generation = if is_finalizing(py) {
            Self::AT_FINALISATION
        } else {
            Self::generation()
        };
        // Acquire: the box is initialised by the thread that stored it.
        let own = self.0.load(Ordering::Acquire);
        // SAFETY: null, or from `make`, and freed only with `self`.
        match unsafe { own.as_ref() } {
            Some(own) if own.generation == generation => own.object.as_ptr(),
            _ => self.make(py, own, generation),
        }
    }

    /// Makes an object for `generation`, the present one; `older` is what there is.
    #[cold]
    fn make(&self, py: Python<'_>, older: *mut Own, generation: usize) -> *mut ffi::PyObject {
        // This may run the garbage collector and with it any code, which may come here too: whoever stores first wins.
        // SAFETY: attached, by the token; `object` is a type, and `object()` a new reference or null.
        let object = unsafe {
            let object_type = (&raw mut ffi::PyBaseObject_Type).cast();
            let object = ffi::PyObject_CallObject(object_type, ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, object)
        };
        let object = object.expect("memory for an object to hold a critical section on");
        let made = Box::into_raw(Box::new(Own {
            object: object.unbind(),
            generation,
            older,
        }));
        // Release for the box, acquire for the one of another thread.
        let stored = self
            .0
            .compare_exchange(older, made, Ordering::AcqRel, Ordering::Acquire);
        if let Err(first) = stored {
            // SAFETY: it was not stored, so it is still ours.
            drop(unsafe { Box::from_raw(made) });
            // SAFETY: from another thread's `make`, and freed only with `self`.
            return unsafe { &*first }.object.as_ptr();
        }
        // SAFETY: stored, and freed only with `self`.
        unsafe { &*made }.object.as_ptr()
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
        let mut own = *self.0.get_mut();
        while !own.is_null() {
            // SAFETY: it came from `Box::into_raw` in `make`, and nobody uses it any more. Dropping the `Py` in it needs no token: PyO3
            // puts the reference aside if this thread is not attached.
            own = unsafe { Box::from_raw(own) }.older;
        }
    }
}
