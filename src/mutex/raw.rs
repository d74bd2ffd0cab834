//! The state machine of the mutex, without the data.

use std::{mem, panic::Location, sync::atomic::Ordering, thread};

use pyo3::Python;

use crate::{
    python::is_finalizing,
    wait::{
        self, FLAG, Failure, LockKind, PARKED, RESERVATION_TIMEOUT, Role, ThreadId, UNOWNED, Wait,
        Waiter, Word,
    },
};

const KIND: &LockKind = &LockKind {
    name: "PyMutex",
    role: Role::Exclusive,
};

/// Set if a thread panicked while it owned the mutex.
const POISONED: u64 = FLAG;

pub(crate) struct RawMutex {
    /// | id | `UNOWNED` | state | entered by |
    /// |---|---|---|---|
    /// | 0 | 0 | unlocked | the unlocking owner |
    /// | thread | 0 | owned by that thread | that thread, attached |
    /// | thread | 1 | *reserved*: unlocked, and only that thread may lock | the unlocking owner |
    ///
    /// An owner reserves the mutex if the first waiter has waited for 1 ms (`wait::park`). A
    /// reservation is ignored
    ///
    /// - by a thread that has seen it for [`RESERVATION_TIMEOUT`];
    /// - if its thread was lost to a fork;
    /// - at exit, by `try_lock`, because its thread can no longer attach.
    ///
    /// A mutex whose owner was lost to a fork stays owned. Waiting for it is reported as a
    /// deadlock, until [`try_own_abandoned`](Self::try_own_abandoned).
    ///
    /// - `PARKED`: the unlocking owner has to unpark a waiter. Set by a thread that enters the
    ///   queue, under the lock of the queue, and by a [`WakeDuty`]. Cleared by the owner that looks
    ///   into the queue.
    /// - `POISONED`: set by the owner that panicked. Cleared by `clear_poison`.
    ///
    /// While threads are parked, `PARKED` is set or an unparked thread has the [`WakeDuty`]. In the
    /// second case an owner unlocks without unparking another thread, which would contend for the
    /// GIL or a processor only to find the mutex locked. The mutex of `std` on Linux does the same.
    word: Word,
}

/// The duty of an unparked thread to keep the remaining waiters from being forgotten.
///
/// The thread sets `PARKED` again when it acquires the mutex or parks. If it does neither, because
/// of an error, a panic or foreign code to run, it drops this. The duty then passes to the owner,
/// or to the next waiter.
struct WakeDuty<'a> {
    raw: &'a RawMutex,
    py: Python<'a>,
}

impl Drop for WakeDuty<'_> {
    #[cold]
    fn drop(&mut self) {
        let word = &self.raw.word;
        if !word.set_parked_if(self.py, |bits| Word::owner(bits).is_some()) {
            wait::unpark_one(word.address(), || {});
        }
    }
}

/// Availability of the mutex to a thread, according to a loaded word.
enum Look {
    /// The thread may become the owner by a compare-exchange of the loaded word.
    Available,
    /// Reserved for another thread.
    Reserved,
    /// Another thread, or the thread itself, owns the mutex.
    Owned,
}

impl RawMutex {
    #[track_caller]
    pub(super) const fn new() -> Self {
        RawMutex { word: Word::new(0) }
    }

    /// Locks the mutex, blocking until it is available.
    #[inline]
    pub(super) fn lock(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<(), Failure> {
        if self.try_lock_fast(py, caller) {
            return Ok(());
        }
        self.lock_slow(py, wait, caller)
    }

    /// Locks an unlocked mutex that has no flags set.
    ///
    /// One read-modify-write; a load and a store with a GIL.
    #[inline(always)]
    fn try_lock_fast(&self, py: Python<'_>, caller: &'static Location<'static>) -> bool {
        let locked = self
            .word
            .compare_exchange_acquire(py, 0, ThreadId::current().bits())
            .is_ok();
        if locked {
            self.word.record_acquired(caller);
        }
        locked
    }

    #[cold]
    fn lock_slow(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<(), Failure> {
        let mut waiter = Waiter::new(&self.word, KIND, wait, caller);
        let me = waiter.thread;
        // The thread of a reservation that has expired for this thread.
        let mut expired = None;
        let mut woken: Option<WakeDuty<'_>> = None;
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            let look = look(bits, me, expired);
            if let Look::Available = look {
                let flags = if woken.is_some() { PARKED } else { 0 };
                if self.try_own(py, bits, flags, me, caller) {
                    mem::forget(woken);
                    return Ok(());
                }
                continue;
            }
            // Spinning would delay the threads that are parked already.
            if bits & PARKED == 0 && waiter.spin(py) {
                continue;
            }
            let reserved = matches!(look, Look::Reserved);
            let recheck_after = reserved.then_some(RESERVATION_TIMEOUT);
            if waiter.may_run_foreign_code() {
                // Foreign code may run for long, or need a lock that a parked thread holds.
                drop(woken.take());
            }
            let recheck_is_due = waiter.park(py, self.word.address(), recheck_after, || {
                // A reservation that was made or dropped meanwhile changes how long to park.
                self.word.set_parked_if(py, |now| {
                    !matches!(self::look(now, me, expired), Look::Available)
                        && (now & UNOWNED != 0) == reserved
                })
            })?;
            // Entering the queue set `PARKED`, which fulfilled the old duty. If this thread did not
            // enter, the new duty replaces the old one; a duty without need is harmless.
            mem::forget(woken.replace(WakeDuty { raw: self, py }));
            expired = recheck_is_due.then(|| ThreadId::from_bits(bits)).flatten();
        }
    }

    /// Attempts to lock the mutex. Fails if it is owned, or reserved for another thread.
    #[inline]
    pub(super) fn try_lock(&self, py: Python<'_>, caller: &'static Location<'static>) -> bool {
        self.try_lock_fast(py, caller) || self.try_lock_slow(py, caller)
    }

    #[cold]
    fn try_lock_slow(&self, py: Python<'_>, caller: &'static Location<'static>) -> bool {
        let me = ThreadId::current();
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            match look(bits, me, None) {
                Look::Owned => return false,
                Look::Reserved if !is_finalizing(py) => return false,
                Look::Available | Look::Reserved => {
                    if self.try_own(py, bits, 0, me, caller) {
                        return true;
                    }
                }
            }
        }
    }

    /// Acquires and poisons the mutex if its owner was lost to a fork.
    pub(super) fn try_own_abandoned(
        &self,
        py: Python<'_>,
        caller: &'static Location<'static>,
    ) -> bool {
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            if !Word::owner(bits).is_some_and(ThreadId::is_gone) {
                return false;
            }
            // Fails if a waiter with a timeout sets `PARKED` meanwhile.
            if self.try_own(py, bits, 0, ThreadId::current(), caller) {
                self.poison(py);
                return true;
            }
        }
    }

    /// Changes the loaded word `bits` to one owned by `me`, with the same flags and `flags`.
    fn try_own(
        &self,
        py: Python<'_>,
        bits: u64,
        flags: u64,
        me: ThreadId,
        caller: &'static Location<'static>,
    ) -> bool {
        let owned = me.bits() | bits & (PARKED | POISONED) | flags;
        let taken = self.word.compare_exchange_acquire(py, bits, owned).is_ok();
        if taken {
            self.word.record_acquired(caller);
        }
        taken
    }

    /// Unlocks the mutex.
    ///
    /// # Safety
    ///
    /// - The calling thread owns the mutex.
    /// - It uses no reference to the data any more.
    #[inline]
    pub(super) unsafe fn unlock(&self, py: Python<'_>) {
        // Not loaded from the word: that would wait for the operation that locked it. If locking
        // was inlined into the same function, the thread-local is already at hand.
        let mine = ThreadId::current().bits();
        if self.word.compare_exchange_release(py, mine, 0).is_err() {
            self.unlock_slow(py);
        }
    }

    /// Unlocks the mutex with threads to unpark, or a flag to keep.
    #[cold]
    fn unlock_slow(&self, py: Python<'_>) {
        let mine = self.word.load(Ordering::Relaxed);
        if mine & PARKED == 0
            && self
                .word
                .compare_exchange_release(py, mine, mine & POISONED)
                .is_ok()
        {
            return;
        }
        wait::unpark_one_fairly(self.word.address(), |first| {
            // The lock of the queue is held, so the waiters cannot change. A `WakeDuty` that sets
            // `PARKED` meanwhile is lost. That is correct: the thread unparked here has the duty,
            // or no thread is parked.
            let due = first.filter(|first| first.is_due);
            let next = due.map_or(0, |first| first.thread.bits() | UNOWNED);
            self.word.fetch_update(py, |bits| next | bits & POISONED);
        });
    }

    /// Unlocks the mutex, and poisons it if the thread started to panic under the lock.
    ///
    /// # Safety
    ///
    /// As for [`unlock`](Self::unlock).
    #[inline]
    pub(super) unsafe fn unlock_poisoning(&self, py: Python<'_>, was_panicking: bool) {
        if !was_panicking && thread::panicking() {
            self.poison(py);
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.unlock(py) }
    }

    #[cold]
    fn poison(&self, py: Python<'_>) {
        self.word.fetch_update(py, |bits| bits | POISONED);
    }

    pub(super) fn clear_poison(&self, py: Python<'_>) {
        self.word.fetch_update(py, |bits| bits & !POISONED);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.word.load(Ordering::Relaxed) & POISONED != 0
    }

    pub(super) fn is_locked(&self) -> bool {
        // Acquire: the garbage collector reads the data if this returns `false`. Other loads of the
        // word are followed by an attempt to lock, which acquires.
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
