//! The state machine of a cell that is filled once, without the value.

use std::{panic::Location, sync::atomic::Ordering};

use crossbeam_utils::Backoff;
use pyo3::Python;

use crate::{
    build_config::FREE_THREADED,
    deadlock::LockKind,
    wait::{self, FLAG, PARKED, Patience, Refusal, ThreadId, Waiter, Word},
};

/// The value is there. Sets the first byte of the word, which is 0 in every other state.
const COMPLETE: u64 = u64::from_ne_bytes([COMPLETE_TAG, 0, 0, 0, 0, 0, 0, 0]);
/// The first byte of a complete cell.
pub(super) const COMPLETE_TAG: u8 = 1;
/// The owner is moving a value into the cell.
const WRITING: u64 = FLAG;
const _: () = assert!((PARKED | WRITING).to_ne_bytes()[0] == 0);

#[repr(transparent)]
pub(super) struct RawOnce {
    /// | id | `COMPLETE` | `WRITING` | meaning | who moves it there |
    /// |---|---|---|---|---|
    /// | 0 | 0 | 0 | *empty* | a thread whose initialiser failed |
    /// | thread | 0 | 0 | *running*: that thread runs its initialiser | that thread, from empty |
    /// | thread | 0 | 1 | *writing*: that thread moves a value in | that thread, from running or empty, or from the running of another thread if the value was imported |
    /// | 0 | 1 | 0 | *complete*, for good | the writing thread |
    ///
    /// Writing is a state of its own because the cell can be taken from a thread whose initialiser runs: whoever
    /// moves a value in must be sure that nobody else does. It takes a few instructions during which the thread
    /// neither detaches nor reaches a safe point, so others spin and only ever read the word: completing is a plain
    /// store. With a GIL no other attached thread ever sees it.
    ///
    /// A cell whose owner was left behind by a fork counts as empty, whatever was moved into it.
    ///
    /// `PARKED` is set by threads that enter the queue, survives failures, and goes away on completion. Threads that would
    /// run an initialiser themselves sleep at the address of the word, and those that only [`wait`](Self::wait) one
    /// byte behind it, so that a failing initialiser wakes one that takes over.
    word: Word,
}

/// What [`RawOnce::begin`] gives a thread that arrived.
pub(super) enum Begin<'a> {
    /// The cell is complete.
    Complete,
    /// This thread shall run its initialiser.
    Run(Running<'a>),
}

/// A thread's turn to fill the cell. Dropping it without a value leaves the cell empty for the next thread.
pub(super) struct Running<'a> {
    raw: &'a RawOnce,
    py: Python<'a>,
}

impl RawOnce {
    pub(super) const fn new() -> Self {
        RawOnce { word: Word::new(0) }
    }

    pub(super) const fn completed() -> Self {
        RawOnce {
            word: Word::new(COMPLETE),
        }
    }

    /// Whether the value is there. If so, all that was written to it is seen.
    #[inline(always)]
    pub(super) fn is_complete(&self) -> bool {
        self.word.load(Ordering::Acquire) == COMPLETE
    }

    /// Waits until the cell is complete or this thread's turn has come to fill it. `kind` is what the author of the call knows the cell
    /// as.
    #[inline]
    pub(super) fn begin<'a>(
        &'a self,
        py: Python<'a>,
        kind: LockKind,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<Begin<'a>, Refusal> {
        if self.word.acquire(py, 0, ThreadId::current().bits()).is_ok() {
            self.word.note_taken(asked_at);
            return Ok(Begin::Run(Running { raw: self, py }));
        }
        self.begin_slow(py, kind, patience, asked_at)
    }

    #[cold]
    fn begin_slow<'a>(
        &'a self,
        py: Python<'a>,
        kind: LockKind,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<Begin<'a>, Refusal> {
        let mut waiter = Waiter::new(&self.word, kind, patience, asked_at);
        let me = waiter.thread;
        loop {
            let Some(bits) = self.settle() else {
                return Ok(Begin::Complete);
            };
            if !is_running(bits) {
                if self
                    .word
                    .acquire(py, bits, me.bits() | bits & PARKED)
                    .is_ok()
                {
                    self.word.note_taken(asked_at);
                    return Ok(Begin::Run(Running { raw: self, py }));
                }
                continue;
            }
            waiter.sleep(py, self.turn_address(), None, || {
                self.word
                    .mark(py, |now| now & WRITING == 0 && is_running(now))
            })?;
        }
    }

    /// Waits until the cell is complete, whoever fills it.
    pub(super) fn wait(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        let mut waiter = Waiter::new(&self.word, LockKind::OnceLock, patience, asked_at);
        while self.settle().is_some() {
            waiter.sleep(py, self.completion_address(), None, || {
                self.word.mark(py, |now| {
                    let is_written = now & WRITING != 0 && is_running(now);
                    now & COMPLETE == 0 && !is_written
                })
            })?;
        }
        Ok(())
    }

    /// Takes the cell for a value that is there already, unless it is complete: also from a thread that is running its
    /// initialiser.
    pub(super) fn seize<'a>(&'a self, py: Python<'a>) -> Option<Running<'a>> {
        loop {
            let bits = self.settle()?;
            let mine = ThreadId::current().bits() | bits & PARKED;
            if self.word.acquire(py, bits, mine).is_ok() {
                return Some(Running { raw: self, py });
            }
        }
    }

    /// The bits of a cell that is empty or running, or `None` if it is complete.
    ///
    /// Spins while a thread is writing, attached: that takes a few instructions, in which the thread waits for nothing.
    /// Only if the system takes its processor away does this last, and then `snooze` gives up ours.
    fn settle(&self) -> Option<u64> {
        let backoff = Backoff::new();
        loop {
            // Acquire: after the answer "complete" the caller reads the value.
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

    /// Where threads sleep that would run an initialiser.
    fn turn_address(&self) -> usize {
        self.word.address()
    }

    /// Where threads sleep that only want the value. The address is inside the word, so nobody else's.
    fn completion_address(&self) -> usize {
        self.word.address() + 1
    }
}

/// Whether there is a thread that runs its initialiser, or moves a value in. One that a fork left behind is not.
fn is_running(bits: u64) -> bool {
    Word::owner(bits).is_some_and(|owner| !owner.is_gone())
}

impl Running<'_> {
    /// Lets `write` move the value into the cell, and completes it.
    ///
    /// Gives false, and does not call `write`, if the cell was taken from this thread since; then it is complete, or will be
    /// in a moment.
    ///
    /// # Safety
    ///
    /// `write` moves a value into the cell that this belongs to, and does not panic, detach or call into Python.
    #[inline]
    pub(super) unsafe fn complete(self, write: impl FnOnce()) -> bool {
        let (raw, py) = (self.raw, self.py);
        // The turn ends here, and must not be given back as a failure.
        std::mem::forget(self);
        let me = ThreadId::current().bits();
        let mut bits = me;
        while let Err(now) = raw.word.acquire(py, bits, bits | WRITING) {
            if Word::owner(now) != ThreadId::from_bits(me) {
                return false;
            }
            bits = now;
        }
        write();
        raw.word.publish(py, COMPLETE);
        if bits & PARKED != 0 {
            wait::unpark_all(raw.turn_address(), || {});
            wait::unpark_all(raw.completion_address(), || {});
        }
        true
    }
}

/// The initialiser failed or panicked: the cell is empty again, and one sleeper takes over.
impl Drop for Running<'_> {
    #[cold]
    fn drop(&mut self) {
        let word = &self.raw.word;
        let mut bits = word.load(Ordering::Relaxed);
        // If somebody else has taken the cell, the word is theirs, and not even the same bits may be stored to it: that
        // would come between a reader and the store that completed the cell.
        while Word::owner(bits) == Some(ThreadId::current()) {
            match word.release(self.py, bits, bits & PARKED) {
                Ok(_) if bits & PARKED != 0 => {
                    return wait::unpark_one(self.raw.turn_address(), || {});
                }
                Ok(_) => return,
                Err(now) => bits = now,
            }
        }
    }
}
