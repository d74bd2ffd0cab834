//! The state machine of the reader-writer lock, without the data.
//!
//! A word for the writers, as that of a mutex; the readers are in the slots of their threads
//! ([`readers`]). A writer becomes the owner of the word, which keeps new readers out, and then
//! waits until the present readers have left.
//!
//! # Failed attempts
//!
//! A failed `try_read` or `try_write` leaves no trace (I11), and fails only if at some moment
//! during the call another thread held the lock, or waited to write, or had it reserved:
//!
//! - `try_read` enters no slot while the word has an owner. If a writer becomes the owner at the
//!   same moment, the reader withdraws before it is in a slot, where no writer sleeps for it and no
//!   `try_write` fails because of it.
//! - `try_write` looks for readers before it claims the word. If it finds one only afterwards, it
//!   restores the word. Until it knows, the word is [`TRYING`], and readers and writers wait for
//!   the outcome. So a reader is not refused by a `try_write` that fails itself: of two attempts
//!   that exclude each other one succeeds.
//!
//! A blocked reader is in no slot either. A writer that stops waiting for readers unparks the
//! threads that its claim kept out, and reserves the lock for none of them.

use std::{
    mem,
    panic::Location,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence},
    thread,
    time::Duration,
};

use crossbeam_utils::Backoff;
use pyo3::Python;

use crate::{
    python::{FREE_THREADED, is_finalizing},
    wait::{
        self, DrainingOwner, FLAG, Failure, FirstWaiter, Holders, LockKind, PARKED,
        RESERVATION_TIMEOUT, Role, SECOND_FLAG, ThreadId, UNOWNED, Wait, Waiter, WaiterGroup, Word,
        fork,
        readers::{self, Entry, LockId},
    },
};

const KIND: &LockKind = &LockKind {
    name: "PyRwLock",
    role: Role::ReadWrite,
};

/// Set if a thread panicked while it was the owner.
const POISONED: u64 = FLAG;

/// Set while the owner, in `try_write`, checks for readers.
const TRYING: u64 = SECOND_FLAG;

/// The bits that determine which thread may become the owner.
const RESERVATION_MASK: u64 = !(POISONED | PARKED);

/// Length of a writer's first sleep behind readers. Any time suffices in which a processor makes
/// its stores visible: see [`readers`].
const READER_STORE_DELAY: Duration = Duration::from_millis(1);

/// Waiters of three kinds, at three addresses that share one queue.
#[derive(Clone, Copy)]
enum WaitQueue {
    /// Threads that wait to become the owner.
    Writers = 0,
    /// Threads that wait to read until there is no owner.
    Readers = 1,
    /// The owner, which waits until the readers have left.
    Owner = 2,
}

pub(crate) struct RawRwLock {
    /// | id | `UNOWNED` | state | entered by |
    /// |---|---|---|---|
    /// | 0 | 0 | no owner, perhaps readers | the unlocking owner; the last awaited reader |
    /// | thread | 0 | owned: that thread writes or waits for readers | that thread, attached |
    /// | thread | 1 | *reserved*: no owner, only that writer may be next | the unlocking owner |
    /// | 0 | 1 | *reserved for readers*: no owner, writers wait | the unlocking owner |
    ///
    /// An owner reserves the lock for a waiter that has waited for 1 ms. A reservation for readers
    /// keeps writers out until `reserved_readers` have entered.
    ///
    /// With `TRYING`, the thread looks for readers after it has claimed the word, and then becomes
    /// the owner or restores the word. That takes a few instructions, in which it neither detaches
    /// nor reaches a safe point, so other threads spin. They only load such a word: its thread ends
    /// the state with a plain store. If that thread was lost to a fork, the word counts as free.
    /// Not used with a GIL, where no other attached thread would see it.
    ///
    /// Readers enter whenever there is no owner. A reservation expires for a thread that has seen
    /// it for [`RESERVATION_TIMEOUT`]. One for threads lost to a fork is ignored, and so is any at
    /// exit.
    ///
    /// - `PARKED`: the unlocking owner has to unpark readers and writers. Set by a thread that
    ///   enters the queue, under the lock of the queue. Cleared by the thread that empties the
    ///   queue.
    /// - `POISONED`: set by the owner that panicked. Cleared by `clear_poison`.
    word: Word,
    /// Set while the owner waits for readers to leave. Ignored if that writer was lost to a fork or
    /// to finalization.
    draining: DrainingOwner,
    /// The [`LockId`], or 0 before the first access.
    id: AtomicU64,
    /// Number of readers of a reservation that have not entered yet.
    reserved_readers: AtomicU32,
    /// The [process](fork::process) of that reservation, which other processes ignore.
    reserved_in: AtomicU32,
}

/// An owner that waits until the readers have left. Unlocks when dropped.
struct DrainGuard<'a> {
    raw: &'a RawRwLock,
    py: Python<'a>,
}

impl Drop for DrainGuard<'_> {
    fn drop(&mut self) {
        self.raw.draining.end(self.py);
        self.raw.give_up_writing(self.py);
    }
}

/// Availability of the lock to a writer, according to a loaded word.
enum Look {
    Available,
    Reserved,
    Owned,
}

impl RawRwLock {
    #[track_caller]
    pub(super) const fn new() -> Self {
        RawRwLock {
            word: Word::new(0),
            draining: DrainingOwner::new(),
            id: AtomicU64::new(0),
            reserved_readers: AtomicU32::new(0),
            reserved_in: AtomicU32::new(0),
        }
    }

    #[inline]
    fn id(&self) -> LockId {
        // Relaxed: the id guards no data.
        match LockId::from_bits(self.id.load(Ordering::Relaxed)) {
            Some(id) => id,
            None => self.assign_id(),
        }
    }

    #[cold]
    fn assign_id(&self) -> LockId {
        let id = LockId::new();
        let stored = self
            .id
            .compare_exchange(0, id.bits(), Ordering::Relaxed, Ordering::Relaxed);
        match stored {
            Ok(_) => id,
            Err(first) => LockId::from_bits(first).expect("it was not 0"),
        }
    }

    fn address(&self, queue: WaitQueue) -> usize {
        self.word.address() + queue as usize
    }

    /// Enters the lock as a reader, unless it has an owner and the calling thread does not read it
    /// already.
    #[inline]
    fn enter(&self) -> Option<Entry> {
        Entry::enter_if(self.id(), || {
            // Sequentially consistent: see `readers`. It also acquires what the last owner wrote.
            Word::owner(self.word.load(Ordering::SeqCst)).is_none()
        })
    }

    fn waiter(&self, wait: &Wait, caller: &'static Location<'static>) -> Waiter<'_> {
        Waiter::new(&self.word, KIND, wait, caller).with_draining(&self.draining)
    }

    /// Loads the word after any `try_write` in progress has ended. Shows [`TRYING`] only if its
    /// thread was lost to a fork.
    #[inline]
    fn settled(&self) -> u64 {
        let bits = self.word.load(Ordering::Relaxed);
        if FREE_THREADED && bits & TRYING != 0 {
            self.settle()
        } else {
            bits
        }
    }

    /// Spins, attached: see [`RawRwLock::word`]. It lasts only if the system preempts the thread
    /// that tries, and then `snooze` yields.
    #[cold]
    fn settle(&self) -> u64 {
        let backoff = Backoff::new();
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            if bits & TRYING == 0 || self.owner(bits).is_none() {
                return bits;
            }
            backoff.snooze();
        }
    }

    /// Returns whether the owner in `bits` has not used the data yet.
    fn is_draining(&self, owner: ThreadId, bits: u64) -> bool {
        bits & TRYING != 0 || self.draining.is_draining(owner)
    }

    /// Returns the owner, unless it was lost to a fork before it had used the data: the lock is
    /// free then.
    fn owner(&self, bits: u64) -> Option<ThreadId> {
        Word::owner(bits).filter(|owner| !(owner.is_gone() && self.is_draining(*owner, bits)))
    }

    /// Frees the word, loaded as `bits`, from an owner that has not used the data and was lost to a
    /// fork or to finalization. Returns whether there was one.
    #[cold]
    #[inline(never)]
    fn release_dead_writer(&self, py: Python<'_>, bits: u64) -> bool {
        let pending = |owner: &ThreadId| self.is_draining(*owner, bits);
        let Some(owner) = Word::owner(bits).filter(pending) else {
            return false;
        };
        // Only one thread is left at exit.
        if !owner.is_gone() && (owner == ThreadId::current() || !is_finalizing(py)) {
            return false;
        }
        // The threads parked behind that owner do not exist either. If this fails, another thread
        // was quicker.
        let _ = self
            .word
            .compare_exchange_release(py, bits, bits & (POISONED | PARKED));
        true
    }

    /// Locks for reading.
    #[inline]
    pub(super) fn read(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<Entry, Failure> {
        match self.enter() {
            Some(entry) => Ok(entry),
            None => self.read_slow(py, wait, caller),
        }
    }

    #[cold]
    fn read_slow(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<Entry, Failure> {
        let mut waiter = self.waiter(wait, caller);
        let mut has_slept = false;
        loop {
            let bits = self.settled();
            if self.release_dead_writer(py, bits) {
                continue;
            }
            if Word::owner(bits).is_none() {
                let entry = self.enter();
                if has_slept {
                    self.count_reserved_reader(py);
                }
                if let Some(entry) = entry {
                    return Ok(entry);
                }
                has_slept = false;
                continue;
            }
            if bits & PARKED == 0 && waiter.spin(py) {
                continue;
            }
            let slept = waiter.park(py, self.address(WaitQueue::Readers), None, || {
                let is_owned = |now| now & TRYING == 0 && self.owner(now).is_some();
                self.word.set_parked_if(py, is_owned)
            });
            if let Err(failure) = slept {
                // It may have been unparked at the same time, as a reader of the reservation.
                self.count_reserved_reader(py);
                return Err(failure);
            }
            has_slept = true;
        }
    }

    /// Attempts to lock for reading without blocking.
    #[inline]
    pub(super) fn try_read(&self, py: Python<'_>) -> Option<Entry> {
        // Before entering: a failed attempt leaves no trace.
        if Word::owner(self.word.load(Ordering::Relaxed)).is_none() {
            let entry = self.enter();
            if entry.is_some() {
                return entry;
            }
        }
        self.try_read_slow(py)
    }

    #[cold]
    fn try_read_slow(&self, py: Python<'_>) -> Option<Entry> {
        let again = Entry::again(self.id());
        if again.is_some() {
            return again;
        }
        loop {
            let bits = self.settled();
            if Word::owner(bits).is_none() {
                let entry = self.enter();
                if entry.is_some() {
                    return entry;
                }
            } else if !self.release_dead_writer(py, bits) {
                return None;
            }
        }
    }

    /// Counts an unparked reader as one of the reservation.
    ///
    /// It may not belong to the reservation, or be counted twice. The reservation then ends a
    /// little early.
    fn count_reserved_reader(&self, py: Python<'_>) {
        // Relaxed: the count guards no data.
        if self.word.load(Ordering::Relaxed) & RESERVATION_MASK != UNOWNED {
            return;
        }
        let left =
            self.reserved_readers
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |awaited| {
                    awaited.checked_sub(1)
                });
        if left == Ok(1) {
            self.end_reservation(py);
        }
    }

    /// Ends the reservation for readers, so that writers may lock.
    #[cold]
    fn end_reservation(&self, py: Python<'_>) {
        wait::unpark_one_fairly(self.address(WaitQueue::Writers), |first| {
            let next = word_for_writer(first);
            self.word.fetch_update(py, |bits| {
                if bits & RESERVATION_MASK == UNOWNED {
                    // Readers may be parked from before the reservation, so `PARKED` stays.
                    next | bits & (POISONED | PARKED)
                } else {
                    bits
                }
            });
        });
    }

    /// Unlocks after reading.
    ///
    /// # Safety
    ///
    /// The caller uses no reference any more that depends on `entry`.
    #[inline]
    pub(super) unsafe fn unlock_read(&self, _py: Python<'_>, entry: Entry) {
        self.leave(entry);
    }

    #[inline]
    fn leave(&self, entry: Entry) {
        if !entry.leave() {
            return;
        }
        // The processor may execute the load before the store becomes visible. The owner allows for
        // that with a short first sleep ([`readers`]). The compiler must not move the load up to
        // where reading began.
        compiler_fence(Ordering::SeqCst);
        // Relaxed: see [`readers`]. The owner can only be waiting for readers.
        if Word::owner(self.word.load(Ordering::Relaxed)).is_some() {
            self.wake_owner();
        }
    }

    #[cold]
    fn wake_owner(&self) {
        wait::unpark_all(self.address(WaitQueue::Owner), || {});
    }

    /// Locks for writing, blocking until no other thread reads or writes.
    #[inline]
    pub(super) fn write(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<(), Failure> {
        let me = ThreadId::current();
        if self.word.compare_exchange_seq_cst(py, 0, me.bits()).is_ok() {
            self.word.record_acquired(caller);
            if !readers::is_read(self.id()) {
                return Ok(());
            }
            let mut waiter = self.waiter(wait, caller);
            return self.drain_readers(py, &mut waiter);
        }
        self.write_slow(py, wait, caller)
    }

    #[cold]
    fn write_slow(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<(), Failure> {
        let mut waiter = self.waiter(wait, caller);
        let me = waiter.thread;
        // The reservation that has expired for this thread.
        let mut expired = None;
        loop {
            let bits = self.settled();
            if self.release_dead_writer(py, bits) {
                continue;
            }
            let look = self.look(bits, me, expired);
            if let Look::Available = look {
                if self.take(py, bits, me, caller) {
                    break;
                }
                continue;
            }
            if bits & PARKED == 0 && waiter.spin(py) {
                continue;
            }
            let reserved = matches!(look, Look::Reserved);
            let recheck_after = reserved.then_some(RESERVATION_TIMEOUT);
            let recheck_is_due =
                waiter.park(py, self.address(WaitQueue::Writers), recheck_after, || {
                    self.word.set_parked_if(py, |now| {
                        now & TRYING == 0
                            && !matches!(self.look(now, me, expired), Look::Available)
                            && (now & UNOWNED != 0) == reserved
                    })
                })?;
            expired = recheck_is_due.then_some(bits & RESERVATION_MASK);
        }
        self.drain_readers(py, &mut waiter)
    }

    /// Waits, as the owner, until all readers have left. Unlocks if the wait ends with an error.
    fn drain_readers(&self, py: Python<'_>, waiter: &mut Waiter<'_>) -> Result<(), Failure> {
        self.draining.begin(py);
        let not_yet = DrainGuard { raw: self, py };
        let id = self.id();
        waiter.set_holders(Holders::Readers(id));
        let mut recheck_after = Some(READER_STORE_DELAY);
        while readers::is_read(id) {
            if waiter.spin(py) {
                continue;
            }
            // `PARKED` is not needed: a leaving reader checks for an owner.
            let recheck_is_due =
                waiter.park(py, self.address(WaitQueue::Owner), recheck_after, || {
                    readers::is_read(id)
                })?;
            // Only after a full first sleep: stores of readers become visible meanwhile
            // ([`readers`]).
            if recheck_is_due {
                recheck_after = None;
            }
        }
        mem::forget(not_yet);
        self.draining.end(py);
        Ok(())
    }

    fn look(&self, bits: u64, me: ThreadId, expired: Option<u64>) -> Look {
        if self.owner(bits).is_some() {
            return Look::Owned;
        }
        let right = bits & RESERVATION_MASK;
        let is_mine = match right {
            // Relaxed: it guards no data. A thread that loads an older value ignores the
            // reservation.
            UNOWNED => self.reserved_in.load(Ordering::Relaxed) != fork::process(),
            _ => ThreadId::from_bits(bits).is_none_or(|other| other == me || other.is_gone()),
        };
        if is_mine || Some(right) == expired {
            Look::Available
        } else {
            Look::Reserved
        }
    }

    /// Attempts to lock for writing without blocking.
    #[inline]
    pub(super) fn try_write(&self, py: Python<'_>, caller: &'static Location<'static>) -> bool {
        let me = ThreadId::current();
        let id = self.id();
        loop {
            let bits = self.settled();
            match self.look(bits, me, None) {
                Look::Owned if self.release_dead_writer(py, bits) => continue,
                Look::Owned => return false,
                Look::Reserved if !is_finalizing(py) => return false,
                Look::Available | Look::Reserved => {}
            }
            // Before the claim: a failed attempt leaves no trace.
            if readers::is_read(id) {
                return false;
            }
            if !FREE_THREADED {
                // No other attached thread runs between the two lines.
                return self.take(py, bits, me, caller);
            }
            let owned = me.bits() | bits & (PARKED | POISONED);
            if self
                .word
                .compare_exchange_seq_cst(py, bits, owned | TRYING)
                .is_err()
            {
                continue;
            }
            let succeeded = !readers::is_read(id);
            // No other thread writes a word that is `TRYING`.
            self.word
                .store_release(py, if succeeded { owned } else { bits });
            if succeeded {
                self.word.record_acquired(caller);
            }
            return succeeded;
        }
    }

    /// Changes the loaded word `bits` to one owned by `me`, with the same flags.
    fn take(
        &self,
        py: Python<'_>,
        bits: u64,
        me: ThreadId,
        caller: &'static Location<'static>,
    ) -> bool {
        let owned = me.bits() | bits & (PARKED | POISONED);
        let taken = self.word.compare_exchange_seq_cst(py, bits, owned).is_ok();
        if taken {
            self.word.record_acquired(caller);
        }
        taken
    }

    /// Unlocks after writing.
    ///
    /// # Safety
    ///
    /// - The calling thread owns the word.
    /// - It uses no reference to the data any more.
    #[inline]
    pub(super) unsafe fn unlock_write(&self, py: Python<'_>) {
        let mine = ThreadId::current().bits();
        if self.word.compare_exchange_release(py, mine, 0).is_err() {
            self.unlock_write_slow(py);
        }
    }

    /// Unlocks without having written. Makes no reservation: a failed attempt decides nothing for
    /// other threads.
    #[cold]
    fn give_up_writing(&self, py: Python<'_>) {
        // `PARKED` stays set, because more than one writer may be parked.
        let bits = self
            .word
            .fetch_update(py, |bits| bits & (POISONED | PARKED));
        if bits & PARKED != 0 {
            wait::unpark_all(self.address(WaitQueue::Readers), || {});
            wait::unpark_one(self.address(WaitQueue::Writers), || {});
        }
    }

    /// Unlocks with threads to unpark, or a flag to keep.
    #[cold]
    fn unlock_write_slow(&self, py: Python<'_>) {
        let mine = self.word.load(Ordering::Relaxed);
        if mine & PARKED == 0
            && self
                .word
                .compare_exchange_release(py, mine, mine & POISONED)
                .is_ok()
        {
            return;
        }
        let (readers, writers) = (
            self.address(WaitQueue::Readers),
            self.address(WaitQueue::Writers),
        );
        // All readers, which do not exclude each other, and one writer, which follows them.
        wait::unpark_all_and_one(readers, writers, |group, first| {
            let next = self.word_after_write(group, first);
            self.word.fetch_update(py, |bits| next | bits & POISONED);
        });
    }

    /// Returns the word after the owner unlocks, without `POISONED`.
    fn word_after_write(&self, readers: WaiterGroup, writer: Option<FirstWaiter>) -> u64 {
        if readers.is_due {
            // Relaxed: they guard no data, and the word is stored after them.
            self.reserved_readers.store(readers.size, Ordering::Relaxed);
            self.reserved_in.store(fork::process(), Ordering::Relaxed);
            // The writer stays parked during the reservation and must not be forgotten.
            return UNOWNED | PARKED;
        }
        word_for_writer(writer)
    }

    /// Changes from writing to reading. No other thread writes in between.
    ///
    /// # Safety
    ///
    /// - The calling thread owns the word.
    /// - It uses no exclusive reference to the data any more.
    pub(super) unsafe fn downgrade(&self, py: Python<'_>) -> Entry {
        // Before the unlock: the next writer must see the slot filled.
        let entry = Entry::new(self.id());
        // SAFETY: as the caller promises.
        unsafe { self.unlock_write(py) };
        entry
    }

    /// Unlocks after writing, and poisons the lock if the thread started to panic under it.
    ///
    /// # Safety
    ///
    /// As for [`unlock_write`](Self::unlock_write).
    #[inline]
    pub(super) unsafe fn unlock_write_poisoning(&self, py: Python<'_>, was_panicking: bool) {
        if !was_panicking && thread::panicking() {
            self.poison(py);
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.unlock_write(py) }
    }

    /// Locks for writing and poisons the lock, if its owner or all of its readers were lost to a
    /// fork.
    pub(super) fn take_abandoned(
        &self,
        py: Python<'_>,
        caller: &'static Location<'static>,
    ) -> bool {
        let had_owner = loop {
            let bits = self.settled();
            if self.release_dead_writer(py, bits) {
                continue;
            }
            let owner = Word::owner(bits);
            let (gone, others) = self.readers();
            let is_abandoned = owner.map_or(gone, ThreadId::is_gone);
            if others || !is_abandoned {
                return false;
            }
            // Fails if a waiter with a timeout sets `PARKED` meanwhile.
            if self.take(py, bits, ThreadId::current(), caller) {
                break owner.is_some();
            }
        };
        // No thread can have entered while the word had an owner. Where it had none, a reader may
        // have entered before this thread took the lock.
        if !had_owner && self.readers().1 {
            self.give_up_writing(py);
            return false;
        }
        readers::forget_gone_readers(self.id());
        self.poison(py);
        true
    }

    /// Returns whether readers exist that were lost to a fork, and whether other readers exist.
    fn readers(&self) -> (bool, bool) {
        let (mut gone, mut others) = (false, false);
        readers::for_each_reader(self.id(), |thread| {
            gone |= thread.is_gone();
            others |= !thread.is_gone();
            true
        });
        (gone, others)
    }

    #[cold]
    fn poison(&self, py: Python<'_>) {
        self.word.fetch_update(py, |bits| bits | POISONED);
    }

    pub(super) fn clear_poison(&self, py: Python<'_>) {
        // Not while a thread tries to write: it would restore the flag.
        let clear = |bits| {
            self.word
                .compare_exchange_release(py, bits, bits & !POISONED)
        };
        while clear(self.settled()).is_err() {}
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.word.load(Ordering::Relaxed) & POISONED != 0
    }

    pub(super) fn has_owner(&self) -> bool {
        // Acquire: the garbage collector reads the data after a negative answer. A thread that
        // tries to write owns nothing yet; while the world is stopped there is none.
        let bits = self.word.load(Ordering::Acquire);
        bits & TRYING == 0 && self.owner(bits).is_some()
    }

    pub(super) fn has_readers(&self) -> bool {
        // Relaxed: the id guards no data.
        LockId::from_bits(self.id.load(Ordering::Relaxed)).is_some_and(readers::is_read)
    }
}

/// Returns the word of a lock without an owner, reserved for `first` if it is due.
fn word_for_writer(first: Option<FirstWaiter>) -> u64 {
    first.map_or(0, |first| {
        let more = if first.others { PARKED } else { 0 };
        if first.is_due {
            first.thread.bits() | UNOWNED | more
        } else {
            more
        }
    })
}
