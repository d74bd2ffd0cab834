//! Critical sections around closures, which end on every path out of the closure.
//!
//! CPython links the sections of a thread in a list through the thread's stack. So a section must
//! not move, and sections must end in reverse order. The functions here keep the section in their
//! own frame, which ensures both.

use std::mem::{ManuallyDrop, MaybeUninit};

use pyo3::prelude::*;

use super::{fork, lock::SectionLock};
use crate::python::{
    PyCriticalSection, PyCriticalSection_Begin, PyCriticalSection_End, PyCriticalSection2,
    PyCriticalSection2_Begin, PyCriticalSection2_End,
};

/// Ends a section when dropped.
///
/// Holds the pointer that CPython keeps in its list until the section ends. A reference would
/// claim exclusive access meanwhile.
struct SectionGuard(*mut PyCriticalSection);

impl Drop for SectionGuard {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY:
        // - `enter` began the section on this thread, in a frame that outlives this value.
        // - Later sections have ended, since they are around closures too.
        // - The thread is attached: code that detaches attaches before it returns or unwinds.
        unsafe { PyCriticalSection_End(self.0) }
    }
}

/// Calls `f` between the beginning and the end of a section.
#[inline(always)]
fn enter<R>(begin: impl FnOnce(*mut PyCriticalSection), f: impl FnOnce() -> R) -> R {
    let mut section = MaybeUninit::uninit();
    let section = section.as_mut_ptr();
    begin(section);
    // Created after `begin`: if that panics, no section has begun.
    let _end = SectionGuard(section);
    f()
}

/// Ends a section on two locks or objects when dropped.
struct SectionGuard2(*mut PyCriticalSection2);

impl Drop for SectionGuard2 {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as for `SectionGuard`.
        unsafe { PyCriticalSection2_End(self.0) }
    }
}

/// Calls `f` in a section on two locks or objects, as [`enter`] does.
#[inline(always)]
fn enter2<R>(begin: impl FnOnce(*mut PyCriticalSection2), f: impl FnOnce() -> R) -> R {
    let mut section = MaybeUninit::uninit();
    let section = section.as_mut_ptr();
    begin(section);
    let _end = SectionGuard2(section);
    f()
}

#[inline(always)]
pub(super) fn on_object<R>(object: &Bound<'_, PyAny>, f: impl FnOnce() -> R) -> R {
    fork::prepare(object.py());
    // SAFETY:
    // - The thread is attached, since a `Bound` exists.
    // - `enter` has room for the section, and ends it on this thread, in order.
    // - The object is borrowed for longer than the section lives.
    enter(
        |section| unsafe { PyCriticalSection_Begin(section, object.as_ptr()) },
        f,
    )
}

#[inline(always)]
pub(super) fn on_objects<R>(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    f: impl FnOnce() -> R,
) -> R {
    fork::prepare(a.py());
    // SAFETY: as in `on_object`, for both. They may be the same object.
    enter2(
        |section| unsafe { PyCriticalSection2_Begin(section, a.as_ptr(), b.as_ptr()) },
        f,
    )
}

/// Calls `f` in a section on `lock`.
///
/// The section is active when `f` begins and when `f` ends. In between, it is suspended when the
/// thread detaches. If `f` forks, the section does not exclude sections that begin later in the
/// child ([`lock`](super::lock)).
#[inline(always)]
pub(crate) fn on_lock<R>(py: Python<'_>, lock: &SectionLock, f: impl FnOnce() -> R) -> R {
    // SAFETY:
    // - `enter` has room for the section, and ends it on this thread, in order.
    // - The lock is borrowed for longer than the section lives.
    enter(|section| unsafe { lock.begin(py, section) }, f)
}

/// Calls `f` in a section on two distinct locks, as [`on_lock`] does.
#[inline(always)]
pub(crate) fn on_locks<R>(
    py: Python<'_>,
    a: &SectionLock,
    b: &SectionLock,
    f: impl FnOnce() -> R,
) -> R {
    // SAFETY: as in `on_lock`, for both.
    enter2(|section| unsafe { a.begin_two(b, py, section) }, f)
}

/// Ends a borrow in a section of the present fork generation.
///
/// Usually this is the section in which the borrow began. After a fork inside that section, the
/// borrow ends in a new section.
pub(crate) struct GenerationCheck<'a, B> {
    borrow: ManuallyDrop<B>,
    lock: &'a SectionLock,
    py: Python<'a>,
    generation: usize,
}

impl<'a, B> GenerationCheck<'a, B> {
    #[inline(always)]
    pub(crate) fn new(borrow: B, py: Python<'a>, lock: &'a SectionLock) -> Self {
        GenerationCheck {
            borrow: ManuallyDrop::new(borrow),
            lock,
            py,
            generation: SectionLock::generation(py),
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_after_fork(&mut self) {
        // SAFETY: called at most once, by `drop`, which then does not use the borrow.
        let borrow = unsafe { ManuallyDrop::take(&mut self.borrow) };
        on_lock(self.py, self.lock, || drop(borrow));
    }
}

impl<B> Drop for GenerationCheck<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.generation == SectionLock::generation(self.py) {
            // SAFETY: `drop` runs once, and the borrow is not dropped elsewhere on this branch.
            unsafe { ManuallyDrop::drop(&mut self.borrow) };
        } else {
            self.drop_after_fork();
        }
    }
}
