//! Per-thread reader slots (BRAVO): which thread reads which lock.
//!
//! A lock that counts its readers in a word of its own makes all of them write to one cache line.
//! Here a reader stores the id of the lock in a *slot* of its own thread, and a writer scans the
//! slots of all threads. Reading scales with the threads; writing costs one scan. The idea is
//! BRAVO's (Dave Dice and Alex Kogan, "BRAVO: Biased Locking for Reader-Writer Locks", USENIX ATC
//! 2019), which uses one table for the process. Slots of each thread share no cache line with those
//! of another, and identify the readers.
//!
//! # Entering
//!
//! 1. The reader announces the lock in [`Record::entering`].
//! 2. It loads the word of the lock. If the lock has an owner, it clears the announcement and has
//!    not read.
//! 3. Otherwise it stores the lock in a slot, and then clears the announcement.
//!
//! A writer becomes the owner, and then scans all records. It waits until no thread is entering the
//! lock, and then looks for it in the slots. The announcement, the load of the word, the claim and
//! the loads of the scan are sequentially consistent. In their total order either the claim
//! precedes the load of the word, and the reader withdraws; or the announcement precedes the scan,
//! and the writer waits for it to be cleared. Clearing it is a release, so a scan that finds it
//! cleared finds the slot filled.
//!
//! A slot therefore shows only threads that read. A reader that withdraws is waited for during a
//! few instructions, never slept for, and wakes no thread (I11).
//!
//! Readers of snapshots and module states announce with a plain store and a
//! [light fence](process_fence::light). Threads that look for them execute a heavy fence first.
//!
//! With a GIL attached threads take turns: the reader loads the word and fills the slot.
//!
//! # Leaving
//!
//! The reader clears the slot with a plain store and then looks for an owner to wake. The store may
//! become visible after the load: the writer then sleeps, and no thread wakes it. So the first
//! sleep of a writer is short. After it, every such store is visible, and every remaining reader
//! sees the owner.
//!
//! Every store to a slot is a release: a writer that loads any later value of the slot has acquired
//! what the thread read before.
//!
//! # The list of records
//!
//! Records are never freed, so a scan needs no lock. The list holds the records of the threads that
//! exist now, and of forgotten guards (I12): a thread links its record when it first reads, and
//! unlinks it when it ends. Unlinked records serve later threads. Only the holder of the
//! [list](lock_list)'s lock changes the list.
//!
//! A scan visits each record that is linked from its beginning to its end. Say that B is
//! *reachable* from A if `next` pointers lead from A to B:
//!
//! - At the beginning, all linked records are reachable from the first one.
//! - *Linking* N stores the present first record in `N.next`, from which all linked records are
//!   reachable. So a way that led through N, which was unlinked before, still leads to every linked
//!   record.
//! - *Unlinking* U makes its predecessor point to U's successor. A way through U only becomes
//!   shorter. U keeps its `next`, so a scan that is at U continues behind it.
//!
//! Thus a record that stays linked stays reachable from each record that the scan reaches. No cycle
//! can appear: when its last pointer was stored, all records of the cycle would have been linked,
//! in a list without an end. A scan starts over only if the record where it is was unlinked and
//! linked again meanwhile.
//!
//! All `next` pointers are stored with release and loaded with acquire ordering. A scan that sees
//! one change sees all earlier changes, and so sees the list at times that never go back. A scan
//! that misses a record because it was unlinked has acquired what its thread read before.
//!
//! A record that is linked during a scan is the case of "Entering": linking is sequentially
//! consistent and precedes the announcement. If the scan begins too early to see it, then so was
//! the claim, and the reader sees an owner.

use std::{
    cell::Cell,
    num::NonZeroU64,
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence},
    },
};

use crossbeam_utils::Backoff;

use pyo3::Python;

use super::{ThreadId, process_fence};
use crate::python::FREE_THREADED;

/// Identifies what a thread reads, in a slot: a lock, or the node of a
/// [`Source`](crate::snapshot::raw::Source).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockId(NonZeroU64);

impl LockId {
    /// Returns an id that no lock has had before.
    ///
    /// The address of a lock would not do: the slot of a forgotten guard stays filled, and must not
    /// concern a later lock at the same address.
    pub(crate) fn new() -> Self {
        // Odd numbers, unlike the addresses of nodes.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness matters.
        let id = NEXT.fetch_add(2, Ordering::Relaxed);
        LockId(NonZeroU64::new(id).expect("fewer than 2^63 locks"))
    }

    /// Returns the id of a node: its address, because a node that is read is never freed; or its
    /// number, which is another id.
    ///
    /// # Safety
    ///
    /// `node` is not null.
    #[inline(always)]
    pub(crate) unsafe fn of_node(node: *mut ()) -> Self {
        // SAFETY: guaranteed by the caller.
        LockId(unsafe { NonZeroU64::new_unchecked(node.addr() as u64) })
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(LockId)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }
}

/// Number of locks that a thread can read at once in one record. It takes another record for more.
const SLOTS: usize = 6;

/// In [`Record::used`]: the thread has further records, which may have slots in use.
const HAS_OVERFLOW: u32 = 1 << SLOTS;

/// In [`Record::used`]: the thread-locals of the thread have been destroyed. The thread itself
/// returns its records as soon as it reads nothing.
const IN_TLS_TEARDOWN: u32 = 2 << SLOTS;

/// In [`Record::used`]: a further record of the thread, which it returns when it is empty.
const EXTRA: u32 = 4 << SLOTS;

/// All slots, in [`Record::used`].
const ALL_SLOTS: u32 = (1 << SLOTS) - 1;

/// The locks that one thread reads.
///
/// The fields that a scan loads come first, in one cache line.
#[repr(C, align(128))]
struct Record {
    /// The lock that the thread is entering, or 0. Stored by the thread, loaded by all.
    entering: AtomicU64,
    /// The locks that the thread reads; 0 in a free slot. Stored by the thread, loaded by all.
    slots: [AtomicU64; SLOTS],
    /// The next record of the list.
    next: AtomicPtr<Record>,
    /// Number of further entries for each slot. Used by the thread only.
    again: [Cell<u32>; SLOTS],
    /// The slots in use, as bits, [`HAS_OVERFLOW`] and [`IN_TLS_TEARDOWN`]. 0 if the thread reads
    /// nothing. Used by the thread only.
    used: Cell<u32>,
    /// A further record of the same thread, taken when this one was full. Used by the thread only.
    more: Cell<Option<&'static Record>>,
    /// The id of the thread, or of the last one that had this record.
    thread: AtomicU64,
    /// The record before this one in the list. Used under the lock of the list only.
    previous: Cell<Option<&'static Record>>,
}

// SAFETY:
// - `again`, `used` and `more` are used by the one thread that has taken the record. Taking a
//   record is ordered after returning it by the lock of the list.
// - `previous` is used under the lock of the list.
// - All else is atomic.
unsafe impl Sync for Record {}

/// The first record of the list.
static FIRST: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());

static LIST: Mutex<List> = Mutex::new(List {
    unlinked: Vec::new(),
    retired: Vec::new(),
});

/// The right to change the list of records, and what else changes under its lock.
pub(super) struct List {
    /// The records that are not in the list.
    unlinked: Vec<&'static Record>,
    /// The [retired](retire) nodes that had readers, each with its owner.
    retired: Vec<(usize, LockId)>,
}

/// Locks the list of records against changes. No other lock of this module's siblings is taken
/// under it, except at a fork.
pub(super) fn lock_list() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

impl List {
    /// Links a record for the thread `thread`.
    fn take(&mut self, thread: ThreadId) -> &'static Record {
        let record = match self.unlinked.pop() {
            Some(record) => record,
            None => Box::leak(Box::new(Record::new())),
        };
        record.thread.store(thread.bits(), Ordering::Relaxed);
        // A thread that was lost to a fork has left them in any state.
        record.used.set(0);
        record.more.set(None);
        record.again.iter().for_each(|again| again.set(0));
        self.link(record);
        record
    }

    fn link(&mut self, record: &'static Record) {
        // Relaxed: changed under the lock only.
        let first = FIRST.load(Ordering::Relaxed);
        record.previous.set(None);
        // Release: see the module documentation.
        record.next.store(first, Ordering::Release);
        // SAFETY: null, or a record, which are never freed.
        if let Some(first) = unsafe { first.as_ref() } {
            first.previous.set(Some(record));
        }
        // Sequentially consistent: the announcements of the thread come after it.
        FIRST.store(ptr::from_ref(record).cast_mut(), Ordering::SeqCst);
    }

    fn unlink(&mut self, record: &'static Record) {
        // Relaxed: changed under the lock only.
        let next = record.next.load(Ordering::Relaxed);
        let previous = record.previous.get();
        // Release: see the module documentation.
        match previous {
            Some(previous) => previous.next.store(next, Ordering::Release),
            None => FIRST.store(next, Ordering::Release),
        }
        // SAFETY: null, or a record, which are never freed.
        if let Some(next) = unsafe { next.as_ref() } {
            next.previous.set(previous);
        }
        self.unlinked.push(record);
    }

    /// Unlinks the records of threads lost to a fork that read nothing.
    ///
    /// Keeps the other ones: a reader may have lent the data to the surviving thread.
    pub(super) fn forget_gone_threads(&mut self) {
        for record in all().filter(|record| record.is_gone()) {
            record.entering.store(0, Ordering::Release);
            if record
                .slots
                .iter()
                .all(|slot| slot.load(Ordering::Relaxed) == 0)
            {
                self.unlink(record);
            }
        }
    }
}

thread_local! {
    /// The first record of this thread. Has no destructor, and so is usable until the thread ends.
    static CURRENT: Cell<Option<&'static Record>> = const { Cell::new(None) };
}

/// The fence between an announcement and the load that follows it.
#[derive(Clone, Copy)]
enum Fence {
    /// A sequentially consistent read-modify-write operation.
    Full,
    /// The [light fence](process_fence::light).
    Light,
    /// The light fence, where it is a compiler fence.
    Compiler,
}

/// Proof that the calling thread reads a lock. The same thread must [leave](Self::leave) it.
pub(crate) struct Entry {
    record: &'static Record,
    index: usize,
}

impl Entry {
    /// Reads `lock` if the calling thread reads it already or `may_read`, which must load the owner
    /// of the lock sequentially consistently, returns true. Returns `None` otherwise; then no trace
    /// is left.
    #[inline]
    pub(crate) fn enter_if(lock: LockId, may_read: impl FnOnce() -> bool) -> Option<Entry> {
        match CURRENT.get() {
            // The usual case: this thread reads nothing else.
            Some(record) if record.used.get() == 0 => {
                record.enter_if(0, lock, Fence::Full, may_read)
            }
            _ => Self::enter_if_slow(lock, Fence::Full, may_read),
        }
    }

    /// [`enter_if`](Self::enter_if) without a read-modify-write operation where possible. A thread
    /// that looks for readers must execute a [heavy fence](process_fence::heavy) first. `may_read`
    /// must load with acquire ordering.
    #[inline(always)]
    pub(crate) fn enter_if_light(
        py: Python<'_>,
        lock: LockId,
        may_read: impl FnOnce() -> bool,
    ) -> Option<Entry> {
        match CURRENT.get() {
            Some(record) if record.used.get() == 0 && process_fence::is_light() => {
                record.enter_if(0, lock, Fence::Compiler, may_read)
            }
            _ => Self::enter_if_light_slow(py, lock, may_read),
        }
    }

    #[cold]
    #[inline(never)]
    fn enter_if_light_slow(
        py: Python<'_>,
        lock: LockId,
        may_read: impl FnOnce() -> bool,
    ) -> Option<Entry> {
        // This may detach, and so must not happen between the announcement and its end.
        process_fence::prepare(py);
        Self::enter_if_slow(lock, Fence::Light, may_read)
    }

    #[cold]
    fn enter_if_slow(lock: LockId, fence: Fence, may_read: impl FnOnce() -> bool) -> Option<Entry> {
        if let Some(entry) = Self::again(lock) {
            return Some(entry);
        }
        let (record, index) = free_slot();
        let entry = record.enter_if(index, lock, fence, may_read);
        if entry.is_none() {
            record.return_if_empty();
        }
        entry
    }

    /// Reads `lock` unconditionally, once more if the calling thread reads it already.
    ///
    /// A sequentially consistent load of the lock's state must follow.
    #[inline]
    pub(crate) fn new(lock: LockId) -> Entry {
        match CURRENT.get() {
            Some(record) if record.used.get() == 0 => record.fill(0, lock),
            _ => Self::new_slow(lock),
        }
    }

    #[cold]
    fn new_slow(lock: LockId) -> Entry {
        Self::again(lock).unwrap_or_else(|| {
            let (record, index) = free_slot();
            record.fill(index, lock)
        })
    }

    /// Reads `lock` once more, if the calling thread reads it already.
    pub(crate) fn again(lock: LockId) -> Option<Entry> {
        let mut record = CURRENT.get();
        while let Some(this) = record {
            let reads = |index: &usize| {
                // Relaxed: stored by this thread only.
                this.used.get() & (1 << index) != 0
                    && this.slots[*index].load(Ordering::Relaxed) == lock.bits()
            };
            if let Some(index) = (0..SLOTS).find(reads) {
                let again = &this.again[index];
                let once_more = again.get().checked_add(1);
                again.set(once_more.expect("fewer than 2^32 readings"));
                return Some(Entry {
                    record: this,
                    index,
                });
            }
            record = this.more.get();
        }
        None
    }

    /// Leaves the lock once. Returns whether the thread does not read the lock any more.
    #[inline]
    pub(crate) fn leave(self) -> bool {
        let again = &self.record.again[self.index];
        if again.get() > 0 {
            again.set(again.get() - 1);
            return false;
        }
        // Release: a writer that sees this acquires what the thread has read.
        self.record.slots[self.index].store(0, Ordering::Release);
        let used = self.record.used.get() & !(1 << self.index);
        self.record.used.set(used);
        if used & (IN_TLS_TEARDOWN | EXTRA) != 0 {
            self.record.return_if_empty();
        }
        true
    }
}

impl Record {
    fn new() -> Self {
        Record {
            entering: AtomicU64::new(0),
            slots: Default::default(),
            next: AtomicPtr::new(ptr::null_mut()),
            again: Default::default(),
            used: Cell::new(0),
            more: Cell::new(None),
            thread: AtomicU64::new(0),
            previous: Cell::new(None),
        }
    }

    /// Runs the protocol of the module documentation with a free slot.
    #[inline(always)]
    fn enter_if(
        &'static self,
        index: usize,
        lock: LockId,
        fence: Fence,
        may_read: impl FnOnce() -> bool,
    ) -> Option<Entry> {
        if FREE_THREADED {
            match fence {
                // A swap: on x86 a sequentially consistent store is one too.
                Fence::Full => drop(self.entering.swap(lock.bits(), Ordering::SeqCst)),
                // Release: a scan that finds this announcement instead of the end of the one before
                // finds the slot of that one filled.
                Fence::Light => {
                    self.entering.store(lock.bits(), Ordering::Release);
                    process_fence::light();
                }
                Fence::Compiler => {
                    self.entering.store(lock.bits(), Ordering::Release);
                    compiler_fence(Ordering::SeqCst);
                }
            }
        }
        let enters = may_read();
        if enters {
            self.slots[index].store(lock.bits(), Ordering::Release);
        }
        if FREE_THREADED {
            // Release: the slot is filled before.
            self.entering.store(0, Ordering::Release);
        }
        enters.then(|| self.entry(index))
    }

    /// Fills a free slot.
    #[inline]
    fn fill(&'static self, index: usize, lock: LockId) -> Entry {
        let slot = &self.slots[index];
        if FREE_THREADED {
            // A swap: on x86 a sequentially consistent store is one too.
            slot.swap(lock.bits(), Ordering::SeqCst);
        } else {
            slot.store(lock.bits(), Ordering::Release);
        }
        self.entry(index)
    }

    /// The entry of a slot that was just filled.
    #[inline(always)]
    fn entry(&'static self, index: usize) -> Entry {
        self.used.set(self.used.get() | 1 << index);
        Entry {
            record: self,
            index,
        }
    }

    /// Waits until the thread of the record is not entering `lock`.
    #[inline]
    fn wait_until_entered(&self, lock: LockId) {
        // Sequentially consistent: see the module documentation.
        if FREE_THREADED && self.entering.load(Ordering::SeqCst) == lock.bits() {
            self.wait_until_entered_slow(lock);
        }
    }

    /// Spins: entering takes a few instructions, in which the thread waits for nothing. It lasts
    /// only if the system preempts that thread, and then `snooze` yields.
    #[cold]
    fn wait_until_entered_slow(&self, lock: LockId) {
        let backoff = Backoff::new();
        while self.entering.load(Ordering::SeqCst) == lock.bits() {
            backoff.snooze();
        }
    }

    /// Returns the record if it is a further one that reads nothing; and all records of the thread
    /// if it reads nothing and nothing else will return them.
    #[cold]
    fn return_if_empty(&'static self) {
        let used = self.used.get();
        if used & EXTRA != 0 && used & ALL_SLOTS == 0 {
            return_extra(self);
        }
        if used & IN_TLS_TEARDOWN != 0 {
            return_records_unless_in_use();
        }
    }

    fn thread(&self) -> Option<ThreadId> {
        // Relaxed: stored before the record was linked.
        ThreadId::from_bits(self.thread.load(Ordering::Relaxed))
    }

    /// Returns whether the thread of the record was lost to a fork.
    fn is_gone(&self) -> bool {
        self.thread().is_some_and(ThreadId::is_gone)
    }
}

/// Calls `visit` with each thread that reads `lock`, until it returns false.
pub(crate) fn for_each_reader(lock: LockId, mut visit: impl FnMut(ThreadId) -> bool) {
    for record in all() {
        record.wait_until_entered(lock);
        // Sequentially consistent: `Entry::new` and its callers rely on it.
        let reads = |slot: &AtomicU64| slot.load(Ordering::SeqCst) == lock.bits();
        if record.slots.iter().any(reads) {
            let thread = record.thread();
            if thread.is_some_and(|thread| !visit(thread)) {
                return;
            }
        }
    }
}

/// Returns whether any thread reads `lock`.
pub(crate) fn is_read(lock: LockId) -> bool {
    let mut is_read = false;
    for_each_reader(lock, |_| {
        is_read = true;
        false
    });
    is_read
}

/// Returns whether the caller must free a node, which has no readers. Otherwise the last reader to
/// leave must, with [`reclaim`].
///
/// `owner` is the address of the [`Source`](crate::snapshot::raw::Source) that led to the node, and
/// distinguishes it from a later node at the same address.
///
/// No thread can start to read the node, and the calling thread has executed a
/// [`heavy`](process_fence::heavy) fence since.
pub(crate) fn retire(owner: usize, node: LockId) -> bool {
    let mut list = lock_list();
    let is_read = is_read(node);
    if is_read {
        list.retired.push((owner, node));
    }
    !is_read
}

/// Returns whether the caller, which has left a node, must free it: the node is retired, was not
/// freed, and has no more readers.
pub(crate) fn reclaim(owner: usize, node: LockId) -> bool {
    let mut list = lock_list();
    let place = list
        .retired
        .iter()
        .position(|retired| *retired == (owner, node));
    let unread = place.filter(|_| !is_read(node));
    if let Some(place) = unread {
        list.retired.swap_remove(place);
    }
    unread.is_some()
}

/// Clears the slots for `lock` of threads lost to a fork.
pub(crate) fn forget_gone_readers(lock: LockId) {
    let mut list = lock_list();
    for record in all().filter(|record| record.is_gone()) {
        for slot in &record.slots {
            // Relaxed: the lock of the list keeps other threads from storing to it.
            if slot.load(Ordering::Relaxed) == lock.bits() {
                slot.store(0, Ordering::Release);
            }
        }
    }
    list.forget_gone_threads();
}

fn all() -> impl Iterator<Item = &'static Record> {
    // Sequentially consistent: see the module documentation.
    let mut next = FIRST.load(Ordering::SeqCst);
    std::iter::from_fn(move || {
        // SAFETY: null, or a record, which are never freed.
        let record: &'static Record = unsafe { next.as_ref() }?;
        // Acquire: see the module documentation.
        next = record.next.load(Ordering::Acquire);
        Some(record)
    })
}

/// A free slot of the calling thread, in a further record if it has none.
fn free_slot() -> (&'static Record, usize) {
    let mut record = CURRENT.get().unwrap_or_else(take_record);
    loop {
        let free = (!record.used.get()).trailing_zeros() as usize;
        if free < SLOTS {
            return (record, free);
        }
        record = match record.more.get() {
            Some(more) => more,
            None => {
                let more = take_any_record();
                more.used.set(record.used.get() & IN_TLS_TEARDOWN | EXTRA);
                record.more.set(Some(more));
                record.used.set(record.used.get() | HAS_OVERFLOW);
                more
            }
        };
    }
}

/// Takes the first record of the calling thread.
fn take_record() -> &'static Record {
    /// Returns the records of a thread when it ends.
    struct Return;
    impl Drop for Return {
        fn drop(&mut self) {
            return_records();
        }
    }
    thread_local! {
        static RETURN: Return = const { Return };
    }
    let record = take_any_record();
    CURRENT.set(Some(record));
    if RETURN.try_with(|_| ()).is_err() {
        record.used.set(IN_TLS_TEARDOWN);
    }
    record
}

fn take_any_record() -> &'static Record {
    // Before the list is locked: this may register the thread.
    let me = ThreadId::current();
    lock_list().take(me)
}

/// Returns the records of the calling thread.
fn return_records() {
    let mut record = CURRENT.take();
    let mut list = lock_list();
    while let Some(this) = record {
        record = this.more.take();
        this.used.set(this.used.get() & ALL_SLOTS);
        // A slot that is still filled is that of a forgotten guard, and stays.
        if this.used.get() == 0 {
            list.unlink(this);
        }
    }
}

/// Takes a further record out of the chain of the calling thread and unlinks it, so that a thread
/// that once read many locks costs writers, and itself, no more than others (I12).
fn return_extra(extra: &'static Record) {
    let mut record = CURRENT.get();
    while let Some(this) = record {
        record = this.more.get();
        if record.is_some_and(|more| ptr::eq(more, extra)) {
            this.more.set(extra.more.take());
            if this.more.get().is_none() {
                this.used.set(this.used.get() & !HAS_OVERFLOW);
            }
            lock_list().unlink(extra);
            return;
        }
    }
}

fn return_records_unless_in_use() {
    let mut record = CURRENT.get();
    while let Some(this) = record {
        if this.used.get() & ALL_SLOTS != 0 {
            return;
        }
        record = this.more.get();
    }
    return_records();
}
