//! The locks of critical sections that are not on an object of the caller.
//!
//! There are three kinds:
//!
//! | build | kind |
//! |---|---|
//! | with a GIL | [`NoLock`]: the GIL serves as the section |
//! | free-threaded, Python 3.14 and later, full API | [`MutexLock`]: a mutex of CPython, one byte |
//! | free-threaded 3.13, `abi3t` | [`ObjectLock`]: the mutex of an object created on first use |
//!
//! # Fork
//!
//! A mutex may be locked in a forked child for a thread that does not exist there ([`fork`]). So
//! each fork generation uses another mutex, or another object.
//!
//! A section that began before the fork does not exclude sections that begin in the child. The
//! borrow flag is changed only in a section of the present generation, which
//! [`section::GenerationCheck`](super::section::GenerationCheck) ensures.
//!
//! # Finalization
//!
//! CPython hands a contended mutex over to a parked waiter. While the interpreter is finalizing, no
//! thread but the finalizing one attaches again, so a mutex that is handed over stays locked. The
//! finalizing thread must neither wait for a locked mutex nor unlock one with parked waiters:
//!
//! - [`ObjectLock`] uses another object during finalization. No other thread uses it, because no
//!   other thread is attached.
//! - [`MutexLock`] uses another mutex during finalization if the byte of the usual one is not zero.
//!
//! A byte of zero means that the mutex is unlocked and has no parked waiter: a waiter sets a bit
//! before it parks, and the unlocking thread leaves it set while more waiters are parked. The byte
//! remains zero until the finalizing thread changes it. CPython detaches all other threads before
//! it sets the flag of finalization, and threads enter the queue of a mutex only while attached.
//! From then on the finalizing thread alone changes the byte, and its own unlocks find no waiter.
//!
//! A byte that is not zero may belong to an enclosing section of the finalizing thread itself. Then
//! the two sections are on different mutexes. That is harmless, because no other thread is
//! attached.
//!
//! Sections of other threads that began before finalization are never resumed, since those threads
//! never attach again. A section of the finalizing thread began before finalization only if the
//! thread calls `Py_FinalizeEx` inside it, for example by printing a `SystemExit` with
//! [`PyErr::print`]. Resuming such a section may hang, as it may for every critical section of
//! CPython. No code of this crate runs then.

#![allow(dead_code, reason = "each build uses one of the three")]

use std::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU8, Ordering},
};

use pyo3::{ffi, prelude::*};

use super::fork::{self, new_object};
use crate::python::{
    PyCriticalSection, PyCriticalSection_Begin, PyCriticalSection_BeginMutex, PyCriticalSection2,
    PyCriticalSection2_Begin, PyCriticalSection2_BeginMutex, is_finalizing,
};

#[cfg(all(Py_GIL_DISABLED, PyCriticalSection_BeginMutex))]
pub(crate) use MutexLock as SectionLock;
/// The lock of the critical section of a `PyProtected`.
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) use NoLock as SectionLock;
#[cfg(all(Py_GIL_DISABLED, not(PyCriticalSection_BeginMutex)))]
pub(crate) use ObjectLock as SectionLock;

/// A lock that does nothing: the GIL serves as the section.
///
/// All three kinds have the same methods, for [`super::section`]:
///
/// - `begin` begins a section and writes it to `section`, which may be uninitialized. The same
///   thread must end it, attached, before it ends any section that began earlier. Until then the
///   section must not move, and `self` must live.
/// - `begin_two` does so for two locks that differ.
/// - `generation` differs between a forked child and its ancestors.
pub(crate) struct NoLock;

impl NoLock {
    pub(crate) const fn new() -> Self {
        NoLock
    }

    #[inline(always)]
    pub(super) fn generation(_: Python<'_>) -> usize {
        0
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, _: Python<'_>, _: *mut PyCriticalSection) {}

    #[inline(always)]
    pub(super) unsafe fn begin_two(&self, _: &Self, _: Python<'_>, _: *mut PyCriticalSection2) {}
}

/// A `PyMutex` of CPython for each generation, and one for finalization. All are zero when
/// unlocked. Only critical sections lock them.
///
/// There are as many generations as the padding beside the borrow flag has room for. Children at a
/// fork depth of more than six share the last mutex: there a new section may wait for a thread that
/// does not exist.
pub(crate) struct MutexLock {
    mutexes: [AtomicU8; GENERATIONS as usize],
    at_finalization: AtomicU8,
}

const GENERATIONS: u32 = 7;

impl MutexLock {
    pub(crate) const fn new() -> Self {
        MutexLock {
            mutexes: [const { AtomicU8::new(0) }; GENERATIONS as usize],
            at_finalization: AtomicU8::new(0),
        }
    }

    #[inline(always)]
    pub(super) fn generation(py: Python<'_>) -> usize {
        fork::generation::<GENERATIONS>(py)
    }

    #[inline(always)]
    fn mutex(&self, py: Python<'_>) -> *mut u8 {
        let mutex = &self.mutexes[Self::generation(py)];
        // Relaxed: during finalization every other thread changed the byte before the finalizing
        // thread stopped it. Otherwise the value has no effect.
        if mutex.load(Ordering::Relaxed) != 0 && Self::is_finalizing(py) {
            return self.at_finalization.as_ptr();
        }
        mutex.as_ptr()
    }

    #[cold]
    fn is_finalizing(py: Python<'_>) -> bool {
        is_finalizing(py)
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, py: Python<'_>, section: *mut PyCriticalSection) {
        // SAFETY:
        // - The thread is attached, by the token.
        // - Room for the section and its end are guaranteed by the caller.
        // - The mutex was zero at first, and CPython alone changes it.
        // - It does not move while `self` is borrowed.
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

/// An object that no other code knows, or null before the first section.
///
/// During finalization always another object: whether the mutex of an object has waiters cannot be
/// read.
pub(crate) struct ObjectLock(AtomicPtr<Own>);

/// The object of an [`ObjectLock`]. Boxed, so that a pointer to it can be exchanged atomically.
struct Own {
    object: Py<PyAny>,
    /// The fork generation, or [`AT_FINALIZATION`](ObjectLock::AT_FINALIZATION).
    generation: usize,
    /// Keeps the object of an older generation, for sections that began before the fork.
    older: *mut Own,
}

impl ObjectLock {
    /// Above every generation.
    const AT_FINALIZATION: usize = usize::MAX;

    pub(crate) const fn new() -> Self {
        ObjectLock(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline(always)]
    pub(super) fn generation(py: Python<'_>) -> usize {
        fork::generation::<{ u32::MAX }>(py)
    }

    fn object(&self, py: Python<'_>) -> *mut ffi::PyObject {
        let generation = if is_finalizing(py) {
            Self::AT_FINALIZATION
        } else {
            Self::generation(py)
        };
        // Acquire: pairs with the release in `make`, which publishes the box.
        let own = self.0.load(Ordering::Acquire);
        // SAFETY: null, or from `make`, and freed only with `self`.
        match unsafe { own.as_ref() } {
            Some(own) if own.generation == generation => own.object.as_ptr(),
            _ => self.make(py, own, generation),
        }
    }

    /// Stores an object for the present `generation`, replacing `older`.
    #[cold]
    fn make(&self, py: Python<'_>, older: *mut Own, generation: usize) -> *mut ffi::PyObject {
        // Allocating may run other code, which may call `make` too. The first thread to store wins.
        let object = new_object(py).expect("memory for an object to hold a critical section on");
        let made = Box::into_raw(Box::new(Own {
            object: object.unbind(),
            generation,
            older,
        }));
        // Release publishes the new box. Acquire on failure, to read the box of the other thread.
        let stored = self
            .0
            .compare_exchange(older, made, Ordering::AcqRel, Ordering::Acquire);
        if let Err(first) = stored {
            // SAFETY: the box was not stored, so no other thread has the pointer.
            drop(unsafe { Box::from_raw(made) });
            // SAFETY: stored by another thread's `make`, and freed only with `self`.
            return unsafe { &*first }.object.as_ptr();
        }
        // SAFETY: stored above, and freed only with `self`.
        unsafe { &*made }.object.as_ptr()
    }

    #[inline(always)]
    pub(super) unsafe fn begin(&self, py: Python<'_>, section: *mut PyCriticalSection) {
        // SAFETY:
        // - The thread is attached, by the token.
        // - Room for the section and its end are guaranteed by the caller.
        // - The object lives as long as `self`.
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
            // SAFETY:
            // - The pointer came from `Box::into_raw` in `make`.
            // - `self` is no longer borrowed.
            //
            // Dropping the `Py` needs no token: PyO3 defers that if the thread is detached.
            own = unsafe { Box::from_raw(own) }.older;
        }
    }
}
