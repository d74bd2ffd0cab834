//! The state machine of the mutex, without the data that it guards.

use std::{mem, panic::Location, sync::atomic::Ordering, thread};

use pyo3::Python;

use crate::{
    deadlock::LockKind,
    wait::{self, FLAG, PARKED, Patience, RESERVATION, Refusal, ThreadId, UNOWNED, Waiter, Word},
};

/// A thread panicked while it owned the mutex.
const POISONED: u64 = FLAG;

pub(crate) struct RawMutex {
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
    /// Where threads sleep, `PARKED` is set, or one that was [woken](Woken) is on its way. That one answers for the others: it
    /// sets the flag again when it takes the mutex or goes back to sleep, and passes the duty on when it gives up, or is about to run code
    /// of others. Until then owners unlock as if nobody slept. Otherwise each of them would wake one thread more, and all of those would
    /// want the GIL, or a processor, before they could find out that the mutex is taken. (The mutex of `std` on Linux does the same.)
    ///
    /// | flag | meaning | set | cleared |
    /// |---|---|---|---|
    /// | `PARKED` | look for sleepers when unlocking | by a thread that enters the queue, under its lock; by one that takes the mutex having slept; by one that was woken and passes that on | by the owner, who looks into the queue |
    /// | `POISONED` | a thread panicked as owner | by that thread, when it unlocks | by `clear_poison` |
    word: Word,
}

/// That a thread was woken, and has to see to it that somebody looks for those who still sleep. Dropped, on an error or a panic too, it
/// passes that on: to the owner, or to the next sleeper.
struct Woken<'a> {
    raw: &'a RawMutex,
    py: Python<'a>,
}

impl Drop for Woken<'_> {
    #[cold]
    fn drop(&mut self) {
        let word = &self.raw.word;
        if !word.mark(self.py, |bits| Word::owner(bits).is_some()) {
            wait::unpark_one(word.address(), || {});
        }
    }
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
        let mut woken: Option<Woken<'_>> = None;
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            let look = look(bits, me, expired);
            if let Look::Available = look {
                let flags = if woken.is_some() { PARKED } else { 0 };
                if self.take(py, bits, flags, me, asked_at) {
                    mem::forget(woken);
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
            if waiter.may_run_other_code() {
                // That may take long, or even need what one of the others has who sleep here.
                drop(woken.take());
            }
            let pause_is_over = waiter.sleep(py, self.word.address(), pause, || {
                // A reservation made, or dropped, in between changes how long to sleep: look again.
                self.word.mark(py, |now| {
                    !matches!(self::look(now, me, expired), Look::Available)
                        && (now & UNOWNED != 0) == reserved
                })
            })?;
            // The word was marked when this thread entered the queue. If it did not, it still answers for others, or does no harm.
            mem::forget(woken.replace(Woken { raw: self, py }));
            expired = pause_is_over.then(|| ThreadId::from_bits(bits)).flatten();
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
        wait::unpark_one_fairly(self.word.address(), |first| {
            // Which sleepers there are cannot change while the queue is locked. `PARKED` may be set meanwhile by a thread that passes on
            // that it was woken, and is lost: whoever is taken off the queue here answers for the others, or there are none.
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
