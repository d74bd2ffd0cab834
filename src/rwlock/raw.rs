//! The state machine of the read-write lock, without the data that it guards.
//!
//! A word for the writers, as that of a mutex; the readers are in the slots of their threads
//! ([`readers`]). To write is to become the owner of the word, which keeps new readers out, and then to wait until the
//! readers that there are have left. So a writer waits for the readers it found, and for none that come after it.

use std::{
    mem,
    panic::Location,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence},
    thread,
    time::Duration,
};

use pyo3::Python;

use crate::{
    deadlock::LockKind,
    wait::{
        self, Crowd, FLAG, Front, Holders, PARKED, Patience, Pending, RESERVATION, Refusal,
        ThreadId, UNOWNED, Waiter, Word, fork,
        readers::{self, Entry, LockId},
    },
};

/// A thread panicked while it was the owner.
const POISONED: u64 = FLAG;

/// The bits that say who may become the owner.
const RIGHT: u64 = !(POISONED | PARKED);

/// How long a writer that waits for readers sleeps at first. The reason is told in [`readers`]; any time is enough in which a
/// processor writes back what it has stored.
const FIRST_SLEEP: Duration = Duration::from_millis(1);

/// Sleepers of three kinds, at three addresses that have one queue.
#[derive(Clone, Copy)]
enum Sleepers {
    /// Threads that want to be the owner.
    Writers = 0,
    /// Threads that want to read, and wait until there is no owner.
    Readers = 1,
    /// The owner, who waits until the readers have left.
    Owner = 2,
}

pub(super) struct RawRwLock {
    /// | id | `UNOWNED` | meaning | who moves it there |
    /// |---|---|---|---|
    /// | 0 | 0 | no owner; there may be readers | the owner, who unlocks; the last reader of a reservation |
    /// | thread | 0 | that thread is the owner: it writes, or waits until those who read have left | that thread, attached |
    /// | thread | 1 | *reserved*: no owner, and of those who want to write only that thread may be the next | the owner, who unlocks with a writer asleep that has waited for a millisecond |
    /// | 0 | 1 | *reserved for readers*: no owner, and nobody becomes it before `awaited_readers` have come | the owner, who unlocks with a reader asleep that has waited for a millisecond |
    ///
    /// Readers come in whenever there is no owner. A reservation that is not used within [`RESERVATION`] may be passed over by
    /// any thread that saw it all that time; one for threads that a fork left behind, by any thread, and so may every one at exit,
    /// when those that it is for cannot attach any more.
    ///
    /// | flag | meaning | set | cleared |
    /// |---|---|---|---|
    /// | `PARKED` | look for sleeping readers and writers when unlocking | by a thread that enters the queue, under its lock | by whoever takes the last one off the queue |
    /// | `POISONED` | a thread panicked as owner | by that thread, when it unlocks | by `clear_poison` |
    word: Word,
    /// Whether the owner only waits until those who read have left. If it never comes back, because a fork left it behind or the interpreter
    /// is shutting down, it counts as none.
    pending: Pending,
    /// The [`LockId`], or 0 before somebody reads or writes for the first time.
    id: AtomicU64,
    /// Of the readers that a reservation is for, those that have not come yet.
    awaited_readers: AtomicU32,
    /// The [process](fork::process) in which that reservation was made: in the child of a fork it is for nobody.
    reserved_in: AtomicU32,
}

/// An owner that waits until the readers have left. Gives the word up when it is dropped.
struct WaitsToWrite<'a> {
    raw: &'a RawRwLock,
    py: Python<'a>,
}

impl Drop for WaitsToWrite<'_> {
    fn drop(&mut self) {
        self.raw.pending.end(self.py);
        // SAFETY: this thread owns the word, and has made no reference to the data.
        unsafe { self.raw.unlock_write(self.py) };
    }
}

/// What a word says to a thread that wants to write.
enum Look {
    Available,
    Reserved,
    Owned,
}

impl RawRwLock {
    pub(super) const fn new() -> Self {
        RawRwLock {
            word: Word::new(0),
            pending: Pending::nobody(),
            id: AtomicU64::new(0),
            awaited_readers: AtomicU32::new(0),
            reserved_in: AtomicU32::new(0),
        }
    }

    #[inline]
    fn id(&self) -> LockId {
        // Relaxed: the number stands for itself.
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

    fn address(&self, sleepers: Sleepers) -> usize {
        self.word.address() + sleepers as usize
    }

    /// Whether the calling thread may read, having just entered that it does.
    #[inline]
    fn may_read(&self, entry: &Entry) -> bool {
        // Sequentially consistent: see `readers`. And it takes over what the last owner wrote.
        entry.is_nested() || Word::owner(self.word.load(Ordering::SeqCst)).is_none()
    }

    fn waiter(&self, patience: Patience, asked_at: &'static Location<'static>) -> Waiter<'_> {
        Waiter::new(&self.word, LockKind::RwLock, patience, asked_at).with_pending(&self.pending)
    }

    /// The owner, unless it is one that a fork left behind while it waited: whatever else the word says, it is to be had then.
    fn owner(&self, bits: u64) -> Option<ThreadId> {
        Word::owner(bits).filter(|owner| !(owner.is_gone() && self.pending.is(*owner)))
    }

    /// Frees the word, seen as `bits`, from an owner that waits, and will never come back. Gives false if that is not so.
    #[cold]
    #[inline(never)]
    fn free_from_pending(&self, py: Python<'_>, bits: u64) -> bool {
        let Some(owner) = Word::owner(bits).filter(|owner| self.pending.is(*owner)) else {
            return false;
        };
        // Only one thread is left at exit.
        if !owner.is_gone() && (owner == ThreadId::current() || !wait::is_finalizing(py)) {
            return false;
        }
        // No thread that sleeps behind that owner can come back either. If this fails another thread was quicker.
        let _ = self.word.release(py, bits, bits & (POISONED | PARKED));
        true
    }

    /// Begins to read.
    #[inline]
    pub(super) fn read(
        &self,
        py: Python<'_>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<Entry, Refusal> {
        let entry = Entry::new(self.id());
        if self.may_read(&entry) {
            return Ok(entry);
        }
        self.read_slow(py, entry, patience(), asked_at)
    }

    #[cold]
    fn read_slow(
        &self,
        py: Python<'_>,
        entry: Entry,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<Entry, Refusal> {
        self.leave(entry);
        let mut waiter = self.waiter(patience, asked_at);
        let mut has_slept = false;
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            if self.free_from_pending(py, bits) {
                continue;
            }
            if Word::owner(bits).is_none() {
                let entry = Entry::new(self.id());
                let may_read = self.may_read(&entry);
                if has_slept {
                    self.reader_has_come(py);
                }
                if may_read {
                    return Ok(entry);
                }
                has_slept = false;
                self.leave(entry);
                continue;
            }
            if bits & PARKED == 0 && waiter.spin(py) {
                continue;
            }
            let slept = waiter.sleep(py, self.address(Sleepers::Readers), None, || {
                self.word.mark(py, |now| self.owner(now).is_some())
            });
            if let Err(refusal) = slept {
                // Perhaps it was woken at the same time, and is waited for.
                self.reader_has_come(py);
                return Err(refusal);
            }
            has_slept = true;
        }
    }

    /// Begins to read if that needs no waiting.
    #[inline]
    pub(super) fn try_read(&self, py: Python<'_>) -> Option<Entry> {
        loop {
            let entry = Entry::new(self.id());
            if self.may_read(&entry) {
                return Some(entry);
            }
            self.leave(entry);
            if !self.free_from_pending(py, self.word.load(Ordering::Relaxed)) {
                return None;
            }
        }
    }

    /// Counts a reader that was woken. It may not be one that the reservation is for, or may have come already: then the
    /// reservation ends a little early.
    fn reader_has_come(&self, py: Python<'_>) {
        // Relaxed: the count guards no data.
        if self.word.load(Ordering::Relaxed) & RIGHT != UNOWNED {
            return;
        }
        let left =
            self.awaited_readers
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |awaited| {
                    awaited.checked_sub(1)
                });
        if left == Ok(1) {
            self.end_reservation(py);
        }
    }

    /// Lets writers in again after the readers.
    #[cold]
    fn end_reservation(&self, py: Python<'_>) {
        wait::unpark_one_fairly(self.address(Sleepers::Writers), |first| {
            let next = for_writer(first);
            self.word.update(py, |bits| {
                if bits & RIGHT == UNOWNED {
                    // Readers may be asleep too, from before the reservation: `PARKED` stays.
                    next | bits & (POISONED | PARKED)
                } else {
                    bits
                }
            });
        });
    }

    /// Ends reading.
    ///
    /// # Safety
    ///
    /// No reference to what the lock guards is used any more that `entry` was for.
    #[inline]
    pub(super) unsafe fn unlock_read(&self, _py: Python<'_>, entry: Entry) {
        self.leave(entry);
    }

    #[inline]
    fn leave(&self, entry: Entry) {
        if !entry.leave() {
            return;
        }
        // The processor may let the look pass the store before it, by a moment, with which the owner reckons ([`readers`]). The
        // compiler must not: it could move the look up to where reading began.
        compiler_fence(Ordering::SeqCst);
        // Relaxed: as told there. An owner can only be one that waits for readers to leave.
        if Word::owner(self.word.load(Ordering::Relaxed)).is_some() {
            self.wake_owner();
        }
    }

    #[cold]
    fn wake_owner(&self) {
        wait::unpark_all(self.address(Sleepers::Owner), || {});
    }

    /// Becomes the one that writes.
    #[inline]
    pub(super) fn write(
        &self,
        py: Python<'_>,
        patience: impl FnOnce() -> Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        let me = ThreadId::current();
        if self.word.claim(py, 0, me.bits()).is_ok() {
            self.word.note_taken(asked_at);
            if !readers::is_read(self.id()) {
                return Ok(());
            }
            let mut waiter = self.waiter(patience(), asked_at);
            return self.wait_for_readers(py, &mut waiter);
        }
        self.write_slow(py, patience(), asked_at)
    }

    #[cold]
    fn write_slow(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        let mut waiter = self.waiter(patience, asked_at);
        let me = waiter.thread;
        // The right that this thread has watched for the whole length of a reservation.
        let mut expired = None;
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            if self.free_from_pending(py, bits) {
                continue;
            }
            let look = self.look(bits, me, expired);
            if let Look::Available = look {
                if self.take(py, bits, me, asked_at) {
                    break;
                }
                continue;
            }
            if bits & PARKED == 0 && waiter.spin(py) {
                continue;
            }
            let reserved = matches!(look, Look::Reserved);
            let pause = reserved.then_some(RESERVATION);
            let pause_is_over = waiter.sleep(py, self.address(Sleepers::Writers), pause, || {
                self.word.mark(py, |now| {
                    !matches!(self.look(now, me, expired), Look::Available)
                        && (now & UNOWNED != 0) == reserved
                })
            })?;
            expired = pause_is_over.then_some(bits & RIGHT);
        }
        self.wait_for_readers(py, &mut waiter)
    }

    /// Waits as the owner until nobody reads any more, or stops being the owner.
    fn wait_for_readers(&self, py: Python<'_>, waiter: &mut Waiter<'_>) -> Result<(), Refusal> {
        self.pending.begin(py);
        let not_yet = WaitsToWrite { raw: self, py };
        let id = self.id();
        waiter.wait_for(Holders::Readers(id));
        let mut pause = Some(FIRST_SLEEP);
        while readers::is_read(id) {
            if waiter.spin(py) {
                continue;
            }
            // Without a mark: a reader that leaves looks at the owner instead.
            let pause_is_over = waiter.sleep(py, self.address(Sleepers::Owner), pause, || {
                readers::is_read(id)
            })?;
            // Not after a shorter sleep: what is told in `readers` needs the time.
            if pause_is_over {
                pause = None;
            }
        }
        mem::forget(not_yet);
        self.pending.end(py);
        Ok(())
    }

    fn look(&self, bits: u64, me: ThreadId, expired: Option<u64>) -> Look {
        if self.owner(bits).is_some() {
            return Look::Owned;
        }
        let right = bits & RIGHT;
        let is_mine = match right {
            // Relaxed: it guards no data. Whoever does not see yet what was stored with the word passes the readers over.
            UNOWNED => self.reserved_in.load(Ordering::Relaxed) != fork::process(),
            _ => ThreadId::from_bits(bits).is_none_or(|other| other == me || other.is_gone()),
        };
        if is_mine || Some(right) == expired {
            Look::Available
        } else {
            Look::Reserved
        }
    }

    /// Becomes the one that writes if that needs no waiting.
    #[inline]
    pub(super) fn try_write(&self, py: Python<'_>, asked_at: &'static Location<'static>) -> bool {
        let me = ThreadId::current();
        loop {
            let bits = self.word.load(Ordering::Relaxed);
            match self.look(bits, me, None) {
                Look::Owned if self.free_from_pending(py, bits) => {}
                Look::Owned => return false,
                Look::Reserved if !wait::is_finalizing(py) => return false,
                Look::Available | Look::Reserved => {
                    if self.take(py, bits, me, asked_at) {
                        break;
                    }
                }
            }
        }
        let succeeded = !readers::is_read(self.id());
        if !succeeded {
            // SAFETY: this thread owns the word, and has made no reference to the data.
            unsafe { self.unlock_write(py) };
        }
        succeeded
    }

    /// Makes `me` the owner of a lock that was seen as `bits`, keeping the flags.
    fn take(
        &self,
        py: Python<'_>,
        bits: u64,
        me: ThreadId,
        asked_at: &'static Location<'static>,
    ) -> bool {
        let owned = me.bits() | bits & (PARKED | POISONED);
        let taken = self.word.claim(py, bits, owned).is_ok();
        if taken {
            self.word.note_taken(asked_at);
        }
        taken
    }

    /// Stops writing.
    ///
    /// # Safety
    ///
    /// The calling thread owns the word, and no reference to what the lock guards is used any more.
    #[inline]
    pub(super) unsafe fn unlock_write(&self, py: Python<'_>) {
        let mine = ThreadId::current().bits();
        if self.word.release(py, mine, 0).is_err() {
            self.unlock_write_slow(py);
        }
    }

    /// Gives the word up with sleepers to look after, or a flag to keep.
    #[cold]
    fn unlock_write_slow(&self, py: Python<'_>) {
        let mine = self.word.load(Ordering::Relaxed);
        if mine & PARKED == 0 && self.word.release(py, mine, mine & POISONED).is_ok() {
            return;
        }
        let (readers, writers) = (
            self.address(Sleepers::Readers),
            self.address(Sleepers::Writers),
        );
        // All readers, since they can all go on, and one writer, which goes on after them.
        wait::unpark_all_and_one(readers, writers, |crowd, first| {
            let next = self.after_writing(crowd, first);
            self.word.update(py, |bits| next | bits & POISONED);
        });
    }

    /// What the word is, without `POISONED`, when the owner lets go.
    fn after_writing(&self, readers: Crowd, writer: Option<Front>) -> u64 {
        if readers.is_due {
            // Relaxed: they guard no data, and are read by those that see the word which is stored next.
            self.awaited_readers.store(readers.size, Ordering::Relaxed);
            self.reserved_in.store(fork::process(), Ordering::Relaxed);
            // That writer sleeps on, for the length of the reservation, and must not be forgotten.
            return UNOWNED | PARKED;
        }
        for_writer(writer)
    }

    /// Goes from writing to reading, with no writer in between.
    ///
    /// # Safety
    ///
    /// The calling thread owns the word, and uses no exclusive reference to what the lock guards any more.
    pub(super) unsafe fn downgrade(&self, py: Python<'_>) -> Entry {
        // Before the word is given up: the next writer sees the slot filled.
        let entry = Entry::new(self.id());
        // SAFETY: as the caller promises.
        unsafe { self.unlock_write(py) };
        entry
    }

    /// [`unlock_write`](Self::unlock_write) by a guard, which poisons the lock if its thread has begun to panic since it was
    /// locked.
    ///
    /// # Safety
    ///
    /// As for `unlock_write`.
    #[inline]
    pub(super) unsafe fn unlock_write_poisoning(&self, py: Python<'_>, was_panicking: bool) {
        if !was_panicking && thread::panicking() {
            self.poison(py);
        }
        // SAFETY: the caller's promise is the same.
        unsafe { self.unlock_write(py) }
    }

    /// Becomes the one that writes where a fork left behind the owner, or readers, and nobody else reads; and poisons the lock.
    pub(super) fn take_abandoned(
        &self,
        py: Python<'_>,
        asked_at: &'static Location<'static>,
    ) -> bool {
        let had_owner = loop {
            let bits = self.word.load(Ordering::Relaxed);
            if self.free_from_pending(py, bits) {
                continue;
            }
            let owner = Word::owner(bits);
            let (gone, others) = self.readers();
            let is_abandoned = owner.map_or(gone, ThreadId::is_gone);
            if others || !is_abandoned {
                return false;
            }
            // Fails if another thread marks the word before it sleeps: those with a time limit do.
            if self.take(py, bits, ThreadId::current(), asked_at) {
                break owner.is_some();
            }
        };
        // While an owner was in the word nobody could come in, so those who are seen now are about to withdraw: the lock must not be
        // given up for them, with the data as the owner left them. Where there was none, somebody may have come in before
        // this thread took the lock.
        if !had_owner && self.readers().1 {
            // SAFETY: this thread owns the word, and has made no reference to the data.
            unsafe { self.unlock_write(py) };
            return false;
        }
        readers::forget_gone_readers(self.id());
        self.poison(py);
        true
    }

    /// Whether threads that a fork left behind read, and whether others do.
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
        self.word.update(py, |bits| bits | POISONED);
    }

    pub(super) fn clear_poison(&self, py: Python<'_>) {
        self.word.update(py, |bits| bits & !POISONED);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.word.load(Ordering::Relaxed) & POISONED != 0
    }

    pub(super) fn has_owner(&self) -> bool {
        // Acquire: the garbage collector reads the data after a negative answer.
        self.owner(self.word.load(Ordering::Acquire)).is_some()
    }

    pub(super) fn has_readers(&self) -> bool {
        // Relaxed: the number stands for itself.
        LockId::from_bits(self.id.load(Ordering::Relaxed)).is_some_and(readers::is_read)
    }
}

/// The word of a lock without an owner whose next one is to be `first`, if it is due.
fn for_writer(first: Option<Front>) -> u64 {
    first.map_or(0, |first| {
        let more = if first.others { PARKED } else { 0 };
        if first.is_due {
            first.thread.bits() | UNOWNED | more
        } else {
            more
        }
    })
}
