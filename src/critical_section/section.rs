//! Critical sections as closures: begun before, ended after, whatever becomes of the closure.
//!
//! A section is a link of a list that CPython keeps for each thread, through the thread's own stack, so it must not move, and
//! must end in the order it began in. The functions here see to both: they keep it in their own frame.

use std::mem::{ManuallyDrop, MaybeUninit};

use pyo3::prelude::*;

use super::fork;
use crate::build_config::{
    PyCriticalSection, PyCriticalSection_Begin, PyCriticalSection_End, PyCriticalSection2,
    PyCriticalSection2_Begin, PyCriticalSection2_End, SectionLock,
};

/// Ends a section when it is dropped.
///
/// A pointer, and the one with which the section was begun: CPython has kept that, in its list, and uses it until the end. A
/// reference that is made meanwhile would be a claim that nobody else uses the section.
struct End(*mut PyCriticalSection);

impl Drop for End {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `around` has had it begun on this thread, and whatever began after it has ended, being closures too. The thread
        // is attached, as it was then: what detaches attaches again before it returns or unwinds. The section is in the frame of
        // `around`, which outlives this.
        unsafe { PyCriticalSection_End(self.0) }
    }
}

/// Runs `f` between `begin` and the end of the section.
#[inline(always)]
fn around<R>(begin: impl FnOnce(*mut PyCriticalSection), f: impl FnOnce() -> R) -> R {
    let mut section = MaybeUninit::uninit();
    let section = section.as_mut_ptr();
    begin(section);
    // Not before: if `begin` panics there is nothing to end.
    let _end = End(section);
    f()
}

/// Ends a section on two locks or objects.
struct End2(*mut PyCriticalSection2);

impl Drop for End2 {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as for `End`.
        unsafe { PyCriticalSection2_End(self.0) }
    }
}

/// [`around`] for a section on two.
#[inline(always)]
fn around2<R>(begin: impl FnOnce(*mut PyCriticalSection2), f: impl FnOnce() -> R) -> R {
    let mut section = MaybeUninit::uninit();
    let section = section.as_mut_ptr();
    begin(section);
    let _end = End2(section);
    f()
}

#[inline(always)]
pub(super) fn on_object<R>(object: &Bound<'_, PyAny>, f: impl FnOnce() -> R) -> R {
    fork::prepare(object.py());
    // SAFETY:
    // - The thread is attached, since there is a `Bound`.
    // - `around` has room for the section, and ends it on this thread, in order.
    // - The object is borrowed for longer.
    around(
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
    around2(
        |section| unsafe { PyCriticalSection2_Begin(section, a.as_ptr(), b.as_ptr()) },
        f,
    )
}

/// Runs `f` in a section on `lock`. The section is active when `f` begins and when `f` ends. In
/// between, it is suspended by whatever detaches.
///
/// If `f` forks, the section does not exclude sections that begin later in the child
/// ([`lock`](super::lock)).
#[inline(always)]
pub(crate) fn on_lock<R>(py: Python<'_>, lock: &SectionLock, f: impl FnOnce() -> R) -> R {
    // SAFETY: `around` gives the section room, and ends it on this thread, in order; the lock is borrowed for longer.
    around(|section| unsafe { lock.begin(py, section) }, f)
}

/// [`on_lock`] for two, which are not the same lock: both are held when `f` begins and when it ends.
#[inline(always)]
pub(crate) fn on_locks<R>(
    py: Python<'_>,
    a: &SectionLock,
    b: &SectionLock,
    f: impl FnOnce() -> R,
) -> R {
    // SAFETY: as in `on_lock`, for both.
    around2(|section| unsafe { a.begin_two(b, py, section) }, f)
}

/// Drops `borrow` in a section of the present generation of processes: in the section in which it
/// began, or after a fork inside that one, in a section for the purpose.
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
        // SAFETY: called once, by `drop`.
        let borrow = unsafe { ManuallyDrop::take(&mut self.borrow) };
        on_lock(self.py, self.lock, || drop(borrow));
    }
}

impl<B> Drop for GenerationCheck<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.generation == SectionLock::generation(self.py) {
            // SAFETY: not dropped otherwise, and this runs once.
            unsafe { ManuallyDrop::drop(&mut self.borrow) };
        } else {
            self.drop_after_fork();
        }
    }
}
