//! The state machine of a [`PyOnceLock`](super::PyOnceLock), without the value.

use std::{panic::Location, sync::atomic::Ordering};

use crossbeam_utils::Backoff;
use pyo3::Python;

use crate::{
    python::FREE_THREADED,
    wait::{self, FLAG, Failure, LockKind, PARKED, Role, ThreadId, Wait, Waiter, Word},
};

pub(super) const KIND: &LockKind = &LockKind {
    name: "PyOnceLock",
    role: Role::Initializer("initializer"),
};

/// The cell is complete. Sets the first byte of the word, which is 0 in every other state.
const COMPLETE: u64 = u64::from_ne_bytes([COMPLETE_TAG, 0, 0, 0, 0, 0, 0, 0]);
/// The first byte of a complete cell.
pub(super) const COMPLETE_TAG: u8 = 1;
/// The owner is moving a value into the cell.
const WRITING: u64 = FLAG;
const _: () = assert!((PARKED | WRITING).to_ne_bytes()[0] == 0);

/// The state of a cell.
#[repr(transparent)]
pub(super) struct RawOnce {
    /// | id | `COMPLETE` | `WRITING` | state | moved there by |
    /// |---|---|---|---|---|
    /// | 0 | 0 | 0 | *empty* | a thread whose initializer failed |
    /// | thread | 0 | 0 | *running* its initializer | that thread, from empty |
    /// | thread | 0 | 1 | *writing* the value | that thread, from empty or any running |
    /// | 0 | 1 | 0 | *complete*, finally | the writing thread |
    ///
    /// Writing is a separate state because a running cell can be seized: the writer must be the
    /// only one. The writer neither detaches nor reaches a safe point, so other threads spin and
    /// only read the word. Completing is therefore a plain store. With a GIL, no other attached
    /// thread sees this state.
    ///
    /// A cell whose owner was lost to a fork counts as empty, even if it was writing (I7).
    ///
    /// Threads that enter a queue set `PARKED`. It survives failures and is cleared on completion.
    /// Initializers park at the address of the word, threads that only [`wait`](RawOnce::wait) one
    /// byte behind it: a failing initializer must unpark a thread that takes over.
    word: Word,
}

/// The result of [`RawOnce::begin`].
pub(super) enum Begin<'a> {
    /// The cell is complete.
    Complete,
    /// The calling thread is the initializer.
    Run(InitGuard<'a>),
}

/// An RAII guard of the thread that initializes the cell. Dropping it leaves the cell empty.
pub(super) struct InitGuard<'a> {
    raw: &'a RawOnce,
    py: Python<'a>,
}

impl RawOnce {
    #[track_caller]
    pub(super) const fn new() -> Self {
        RawOnce { word: Word::new(0) }
    }

    #[track_caller]
    pub(super) const fn completed() -> Self {
        RawOnce {
            word: Word::new(COMPLETE),
        }
    }

    /// Returns whether the cell is complete. If so, acquires the value.
    #[inline(always)]
    pub(super) fn is_complete(&self) -> bool {
        self.word.load(Ordering::Acquire) == COMPLETE
    }

    /// Blocks until the cell is complete or this thread becomes its initializer.
    ///
    /// Deadlock errors call the cell by `kind`.
    #[inline]
    pub(super) fn begin<'a>(
        &'a self,
        py: Python<'a>,
        kind: &'static LockKind,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<Begin<'a>, Failure> {
        if self
            .word
            .compare_exchange_acquire(py, 0, ThreadId::current().bits())
            .is_ok()
        {
            self.word.record_acquired(caller);
            return Ok(Begin::Run(InitGuard { raw: self, py }));
        }
        self.begin_slow(py, kind, wait, caller)
    }

    #[cold]
    fn begin_slow<'a>(
        &'a self,
        py: Python<'a>,
        kind: &'static LockKind,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<Begin<'a>, Failure> {
        let mut waiter = Waiter::new(&self.word, kind, wait, caller);
        let me = waiter.thread;
        loop {
            let Some(bits) = self.load_settled() else {
                return Ok(Begin::Complete);
            };
            if !is_running(bits) {
                if self
                    .word
                    .compare_exchange_acquire(py, bits, me.bits() | bits & PARKED)
                    .is_ok()
                {
                    self.word.record_acquired(caller);
                    return Ok(Begin::Run(InitGuard { raw: self, py }));
                }
                continue;
            }
            waiter.park(py, self.turn_address(), None, || {
                self.word
                    .set_parked_if(py, |now| now & WRITING == 0 && is_running(now))
            })?;
        }
    }

    /// Blocks until another thread completes the cell.
    pub(super) fn wait(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<(), Failure> {
        let mut waiter = Waiter::new(&self.word, KIND, wait, caller);
        while self.load_settled().is_some() {
            waiter.park(py, self.completion_address(), None, || {
                self.word.set_parked_if(py, |now| {
                    let is_written = now & WRITING != 0 && is_running(now);
                    now & COMPLETE == 0 && !is_written
                })
            })?;
        }
        Ok(())
    }

    /// Takes over the cell for a value that exists already, even from a running initializer.
    ///
    /// Returns `None` if the cell is complete.
    pub(super) fn try_take_over<'a>(&'a self, py: Python<'a>) -> Option<InitGuard<'a>> {
        loop {
            let bits = self.load_settled()?;
            let mine = ThreadId::current().bits() | bits & PARKED;
            if self.word.compare_exchange_acquire(py, bits, mine).is_ok() {
                return Some(InitGuard { raw: self, py });
            }
        }
    }

    /// Returns the bits of an empty or running cell, or `None` if the cell is complete.
    ///
    /// Spins, attached, while another thread writes: that takes a few instructions, in which the
    /// writer waits for nothing. It lasts only if the system preempts the writer, and then `snooze`
    /// yields.
    fn load_settled(&self) -> Option<u64> {
        let backoff = Backoff::new();
        loop {
            // Acquire: the caller reads the value of a complete cell.
            let bits = self.word.load(Ordering::Acquire);
            if bits & COMPLETE != 0 {
                return None;
            }
            let is_written = FREE_THREADED && bits & WRITING != 0 && is_running(bits);
            if !is_written {
                return Some(bits);
            }
            backoff.snooze();
        }
    }

    /// Returns the address at which initializers park.
    fn turn_address(&self) -> usize {
        self.word.address()
    }

    /// Returns the address at which [`wait`](Self::wait) parks. It lies in the word, so it is
    /// unique.
    fn completion_address(&self) -> usize {
        self.word.address() + 1
    }
}

/// Returns whether the cell has an owner that was not lost to a fork.
fn is_running(bits: u64) -> bool {
    Word::owner(bits).is_some_and(|owner| !owner.is_gone())
}

impl InitGuard<'_> {
    /// Calls `write`, which moves the value into the cell, and completes the cell.
    ///
    /// Returns `false` without calling `write` if another thread has seized the cell. The cell is
    /// then complete, or that thread is writing.
    ///
    /// # Safety
    ///
    /// - `write` moves a value into the cell of this guard.
    /// - It does not panic, detach or call into Python.
    #[inline]
    pub(super) unsafe fn complete(self, write: impl FnOnce()) -> bool {
        let (raw, py) = (self.raw, self.py);
        // Dropping the guard would empty the cell.
        std::mem::forget(self);
        let me = ThreadId::current().bits();
        let mut bits = me;
        while let Err(now) = raw.word.compare_exchange_acquire(py, bits, bits | WRITING) {
            if Word::owner(now) != ThreadId::from_bits(me) {
                return false;
            }
            bits = now;
        }
        write();
        raw.word.store_release(py, COMPLETE);
        if bits & PARKED != 0 {
            wait::unpark_all(raw.turn_address(), || {});
            wait::unpark_all(raw.completion_address(), || {});
        }
        true
    }
}

/// Empties the cell after a failure or panic, and unparks one initializer, which takes over (I9).
impl Drop for InitGuard<'_> {
    #[cold]
    fn drop(&mut self) {
        let word = &self.raw.word;
        let mut bits = word.load(Ordering::Relaxed);
        // A seized cell belongs to another thread. Storing even the same bits would break the
        // release sequence from the completing store to its readers.
        while Word::owner(bits) == Some(ThreadId::current()) {
            match word.compare_exchange_release(self.py, bits, bits & PARKED) {
                Ok(_) if bits & PARKED != 0 => {
                    return wait::unpark_one(self.raw.turn_address(), || {});
                }
                Ok(_) => return,
                Err(now) => bits = now,
            }
        }
    }
}
