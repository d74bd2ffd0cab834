//! The state machine of the mutex, without the data that it guards.

use std::{panic::Location, sync::atomic::Ordering, thread};

use pyo3::Python;

use crate::{
    deadlock::LockKind,
    wait::{self, FLAG, PARKED, Patience, RESERVATION, Refusal, ThreadId, UNOWNED, Waiter, Word},
};

/// A thread panicked while it owned the mutex.
const POISONED: u64 = FLAG;

pub(super) struct RawMutex {
    /// | id | `UNOWNED` | meaning | who moves it there |
    /// |---|---|---|---|
    /// | 0 | 0 | free | the owner, who unlocks |
    /// | thread | 0 | that thread owns the mutex | that thread, attached, when it was free or reserved for it |
    /// | thread | 1 | *reserved*: no owner, but only that thread takes it | the owner, who unlocks with a sleeper that has waited for a millisecond (`wait::park`) |
    ///
    /// A reservation that was not taken within [`RESERVATION`] may be taken by any thread that saw it all that
    /// time; one for a thread that a fork left behind, by any thread, and so may every one at exit, when the thread that it is for
    /// cannot attach any more. A mutex whose owner a fork left behind stays owned, which is reported to whoever would wait for it, until
    /// [`take_abandoned`](Self::take_abandoned).
    ///
    /// Where threads sleep, `PARKED` is set, or one that was woken is on its way. That one looks after the others: it
    /// sets the flag again when it takes the mutex, goes back to sleep or [gives up](Self::pass_on). Until then owners
    /// unlock as if nobody slept. Otherwise each of them would wake one thread more, and all of those would want the GIL, or a processor,
    /// before they could find out that the mutex is taken. (The same is done by the mutex of `std` on Linux.)
    ///
    /// | flag | meaning | set | cleared |
    /// |---|---|---|---|
    /// | `PARKED` | look for sleepers when unlocking | by a thread that enters the queue, under its lock, and by one that takes the mutex having slept | by the owner, when it takes a sleeper off the queue |
    /// | `POISONED` | a thread panicked as owner | by that thread, when it unlocks | by `clear_poison` |
    word: Word,
}

/// What a word says to a thread that wants the mutex.
enum Look {
    /// It can be had by changing the word from what was seen.
    Available,
    /// It is reserved for another thread.
    Reserved,
    /// Somebody owns it.
    Owned,
}

impl RawMutex {
    pub(super) const fn new() -> Self {
        RawMutex { word: Word::new(0) }
    }

    /// Takes the mutex.
    #[inline]
    pub(super) fn lock(
        &self,
        py: Python<'_>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        if self.lock_free(py, asked_at) {
            return Ok(());
        }
        self.lock_slow(py, patience(), asked_at)
    }

    /// The fast path: one read-modify-write, or with a GIL one load and one store.
    #[inline(always)]
    fn lock_free(&self, py: Python<'_>, asked_at: &'static Location<'static>) -> bool {
        let locked = self.word.acquire(py, 0, ThreadId::current().bits()).is_ok();
        if locked {
            self.word.note_taken(asked_at);
        }
        locked
    }

    #[cold]
    fn lock_slow(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        let mut waiter = Waiter::new(&self.word, LockKind::Mutex, patience, asked_at);
        let me = waiter.thread;
        // The id in a reservation that this thread has watched for its whole length.
        let mut expired = None;
        // Once this thread has slept it may have been woken, and then the word says nothing of others who sleep.
        let mut others = 0;
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            let look = look(bits, me, expired);
            if let Look::Available = look {
                if self.take(py, bits, others, me, asked_at) {
                    return Ok(());
                }
                continue;
            }
            // Where others sleep already, spinning would only delay them.
            if bits & PARKED == 0 && waiter.spin(py) {
                continue;
            }
            let reserved = matches!(look, Look::Reserved);
            let pause = reserved.then_some(RESERVATION);
            let slept = waiter.sleep(py, self.word.address(), pause, |now| {
                // A reservation made, or dropped, in between changes how long to sleep: look again.
                !matches!(self::look(now, me, expired), Look::Available)
                    && (now & UNOWNED != 0) == reserved
            });
            let pause_is_over = slept.inspect_err(|_| {
                if others != 0 {
                    self.pass_on(py);
                }
            })?;
            others = PARKED;
            expired = pause_is_over.then(|| ThreadId::from_bits(bits)).flatten();
        }
    }

    /// Sees to it that somebody looks for those who still sleep, when this thread was woken and gives up.
    #[cold]
    fn pass_on(&self, py: Python<'_>) {
        if !self.word.park(py, |bits| Word::owner(bits).is_some()) {
            wait::unpark_one(self.word.address(), |_| {});
        }
    }

    /// Takes the mutex if nobody owns it and it is not reserved for another thread.
    #[inline]
    pub(super) fn try_lock(&self, py: Python<'_>, asked_at: &'static Location<'static>) -> bool {
        self.lock_free(py, asked_at) || self.try_lock_slow(py, asked_at)
    }

    #[cold]
    fn try_lock_slow(&self, py: Python<'_>, asked_at: &'static Location<'static>) -> bool {
        let me = ThreadId::current();
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            match look(bits, me, None) {
                Look::Owned => return false,
                Look::Reserved if !wait::is_finalizing(py) => return false,
                Look::Available | Look::Reserved => {
                    if self.take(py, bits, 0, me, asked_at) {
                        return true;
                    }
                }
            }
        }
    }

    /// Takes the mutex from an owner that a fork left behind, and poisons it.
    pub(super) fn take_abandoned(
        &self,
        py: Python<'_>,
        asked_at: &'static Location<'static>,
    ) -> bool {
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            if !Word::owner(bits).is_some_and(ThreadId::is_gone) {
                return false;
            }
            // Fails if another thread marks the word before it sleeps: those with a time limit do.
            if self.take(py, bits, 0, ThreadId::current(), asked_at) {
                self.poison(py);
                return true;
            }
        }
    }

    /// Makes `me` the owner of a mutex that was seen as `bits`, keeping the flags.
    fn take(
        &self,
        py: Python<'_>,
        bits: u64,
        flags: u64,
        me: ThreadId,
        asked_at: &'static Location<'static>,
    ) -> bool {
        let owned = me.bits() | bits & (PARKED | POISONED) | flags;
        let taken = self.word.acquire(py, bits, owned).is_ok();
        if taken {
            self.word.note_taken(asked_at);
        }
        taken
    }

    /// Gives the mutex up.
    ///
    /// # Safety
    ///
    /// The calling thread owns it, and no reference to what it guards is used any more.
    #[inline]
    pub(super) unsafe fn unlock(&self, py: Python<'_>) {
        // What the word is without flags. It is not read from the word, which would have to wait for the operation
        // that locked it; the thread-local was found then already, if locking was inlined into the same function.
        let mine = ThreadId::current().bits();
        if self.word.release(py, mine, 0).is_err() {
            self.unlock_slow(py);
        }
    }

    /// Gives the mutex up with sleepers to look after, or a flag to keep.
    #[cold]
    fn unlock_slow(&self, py: Python<'_>) {
        let mine = self.word.load(Ordering::Relaxed);
        if mine & PARKED == 0 && self.word.release(py, mine, mine & POISONED).is_ok() {
            return;
        }
        wait::unpark_one(self.word.address(), |first| {
            // Which sleepers there are cannot change while the queue is locked, and nobody sets `PARKED` meanwhile.
            let due = first.filter(|first| first.is_due);
            let next = due.map_or(0, |first| first.thread.bits() | UNOWNED);
            self.word.update(py, |bits| next | bits & POISONED);
        });
    }

    /// [`unlock`](Self::unlock) by a guard, which poisons the mutex if its thread has begun to panic since it was
    /// locked.
    ///
    /// # Safety
    ///
    /// As for `unlock`.
    #[inline]
    pub(super) unsafe fn unlock_poisoning(&self, py: Python<'_>, was_panicking: bool) {
        if !was_panicking && thread::panicking() {
            self.poison(py);
        }
        // SAFETY: the caller's promise is the same.
        unsafe { self.unlock(py) }
    }

    #[cold]
    fn poison(&self, py: Python<'_>) {
        self.word.update(py, |bits| bits | POISONED);
    }

    pub(super) fn clear_poison(&self, py: Python<'_>) {
        self.word.update(py, |bits| bits & !POISONED);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.word.load(Ordering::Relaxed) & POISONED != 0
    }

    pub(super) fn is_locked(&self) -> bool {
        // Acquire, unlike a look that is followed by an attempt to take the mutex: the garbage collector reads
        // the data after a negative answer.
        Word::owner(self.word.load(Ordering::Acquire)).is_some()
    }
}

fn look(bits: u64, me: ThreadId, expired: Option<ThreadId>) -> Look {
    if Word::owner(bits).is_some() {
        return Look::Owned;
    }
    match ThreadId::from_bits(bits) {
        Some(other) if other != me && Some(other) != expired && !other.is_gone() => Look::Reserved,
        _ => Look::Available,
    }
}
