//! Who reads what: the read sides of all locks that have one, in the open.
//!
//! A lock that counts its readers in a word of its own makes every reader write that word, and two processors that only
//! read hand its cache line to and fro all the time. Here a reader writes in a place of its thread's own: it enters the id of the
//! lock in a *slot*. Whoever wants to write to the lock looks through the slots of all threads. So reading scales with
//! the threads, and writing costs a look at each of them. The idea is BRAVO's (Dave Dice and Alex Kogan, "BRAVO: Biased Locking for
//! Reader-Writer Locks", USENIX ATC 2019), which has one table of slots for the process; with slots for each thread no two
//! threads ever write to one cache line, a thread knows what it reads, and others can tell who the readers are.
//!
//! # Why a writer misses no reader
//!
//! A reader enters the slot, then looks whether the lock has an owner. A writer makes itself the owner, then looks through the
//! slots. All four are sequentially consistent, so they have an order that all threads agree on, and in it one of the two comes
//! second and sees the other. That costs the reader its one read-modify-write operation. With a GIL attached threads
//! take turns, and plain stores and loads do.
//!
//! To leave, a reader clears the slot with a plain store and looks for an owner. Here the two may pass each other: a
//! reader that saw no owner leaves, and the writer, which does not see the slot cleared yet, goes to sleep. Nobody will wake
//! it. So a writer's first sleep is a short one: after it every such store is to be seen, and every reader that is left will see
//! the owner.
//!
//! # Memory
//!
//! The records of threads are a list that only grows; one whose thread has ended serves the next new thread. So they can be
//! looked through without a lock, at any time, and a fork has nothing to make whole.

use std::{
    cell::Cell,
    num::NonZeroU64,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, compiler_fence},
};

use crossbeam_utils::CachePadded;

use super::ThreadId;
use crate::build_config::FREE_THREADED;

/// A lock, as it stands in a slot. Not its address: a guard that was forgotten leaves its slot filled for ever, which must not
/// concern another lock that is put in the same place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockId(NonZeroU64);

impl LockId {
    /// One that no lock has had before.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: all that counts is that no two locks get the same number.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        LockId(NonZeroU64::new(id).expect("fewer than 2^64 locks"))
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(LockId)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }
}

/// How many locks a thread can read at once in one record. It gets another one for more.
const SLOTS: usize = 6;

/// In [`Record::used`]: there are further records, which may have slots in use.
const MORE: u32 = 1 << SLOTS;

/// In [`Record::used`]: the thread-locals of the thread have been destroyed, and nothing will give the record back but the thread
/// itself, when it reads nothing any more.
const LATE: u32 = 2 << SLOTS;

/// All slots, in [`Record::used`].
const ALL_SLOTS: u32 = (1 << SLOTS) - 1;

/// What one thread reads.
struct Record {
    slots: [Slot; SLOTS],
    /// The slots in use, as bits, and [`MORE`] from when the thread has taken a further record on. So one look tells whether it reads
    /// nothing. And [`LATE`]. Only the thread itself uses this.
    used: Cell<u32>,
    /// A further record of the same thread, when this one is full. Only the thread itself uses this.
    more: Cell<Option<&'static Record>>,
    /// The id of the thread, or of the last one that had this record.
    thread: AtomicU64,
    /// Whether a thread has this record.
    taken: AtomicBool,
    /// The next record in the list of all.
    next: AtomicPtr<CachePadded<Record>>,
}

// SAFETY: `used`, `more` and the depths of the slots are used by the one thread that has taken the record; taking it acquires what
// the last one released. All else is atomic.
unsafe impl Sync for Record {}

#[derive(Default)]
struct Slot {
    /// The id of the lock that is read, or 0. Written by the thread of the record, read by all.
    lock: AtomicU64,
    /// How often. Only the thread itself uses this.
    depth: Cell<u32>,
}

/// The first record of the list.
static ALL: AtomicPtr<CachePadded<Record>> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// The record of this thread, once it has one. Without a destructor, so that it can be read until the very end of
    /// the thread.
    static MINE: Cell<Option<&'static Record>> = const { Cell::new(None) };
}

/// That the calling thread reads a lock. Must be left, by the same thread.
pub(crate) struct Entry {
    record: &'static Record,
    index: usize,
}

impl Entry {
    /// Enters that the calling thread reads `lock`, once more if it does already.
    ///
    /// Unless it [is nested](Self::is_nested), what it means is decided by a sequentially consistent look at the owner of the lock
    /// that must follow.
    #[inline]
    pub(crate) fn new(lock: LockId) -> Entry {
        match MINE.get() {
            // The usual case: this thread reads nothing else.
            Some(record) if record.used.get() == 0 => record.fill(0, lock),
            Some(record) => Self::beside_others(record, lock),
            None => take_record().fill(0, lock),
        }
    }

    /// [`new`](Self::new) without a read-modify-write operation, for what is read far more often than it is written: whoever looks for
    /// readers of such a lock has made a fence for all threads before ([`process_fence`](super::process_fence)), which must be available.
    #[inline]
    pub(crate) fn without_fence(lock: LockId) -> Entry {
        match MINE.get() {
            Some(record) if record.used.get() == 0 => {
                let entry =
                    record.fill_with(0, lock, |slot, bits| slot.store(bits, Ordering::Relaxed));
                // Whatever the caller looks at next it looks at after this, as far as the compiler is concerned.
                compiler_fence(Ordering::SeqCst);
                entry
            }
            _ => Self::new(lock),
        }
    }

    #[cold]
    fn beside_others(first: &'static Record, lock: LockId) -> Entry {
        if let Some(entry) = find(first, lock) {
            let depth = &entry.record.slots[entry.index].depth;
            depth.set(
                depth
                    .get()
                    .checked_add(1)
                    .expect("fewer than 2^32 readings"),
            );
            return entry;
        }
        let mut record = first;
        loop {
            let free = (!record.used.get()).trailing_zeros() as usize;
            if free < SLOTS {
                return record.fill(free, lock);
            }
            record = match record.more.get() {
                Some(more) => more,
                None => {
                    let more = take_any_record();
                    more.used.set(record.used.get() & LATE);
                    record.more.set(Some(more));
                    record.used.set(record.used.get() | MORE);
                    more
                }
            };
        }
    }

    /// Whether the thread had entered the lock already, so that this is a lock that it reads in any case.
    #[inline]
    pub(crate) fn is_nested(&self) -> bool {
        self.slot().depth.get() > 1
    }

    /// Takes the entry off; gives whether the thread does not read the lock any more.
    #[inline]
    pub(crate) fn leave(self) -> bool {
        let slot = self.slot();
        let depth = slot.depth.get() - 1;
        slot.depth.set(depth);
        if depth > 0 {
            return false;
        }
        // Release: what this thread has read, it has read before a writer sees this.
        slot.lock.store(0, Ordering::Release);
        let used = self.record.used.get() & !(1 << self.index);
        self.record.used.set(used);
        if used & LATE != 0 {
            return_records_unless_in_use();
        }
        true
    }

    #[inline]
    fn slot(&self) -> &'static Slot {
        &self.record.slots[self.index]
    }
}

impl Record {
    #[inline]
    fn fill(&'static self, index: usize, lock: LockId) -> Entry {
        self.fill_with(index, lock, |slot, bits| {
            if FREE_THREADED {
                // A swap, because a sequentially consistent store is one, or a store and a fence, which takes longer.
                slot.swap(bits, Ordering::SeqCst);
            } else {
                slot.store(bits, Ordering::Relaxed);
            }
        })
    }

    #[inline(always)]
    fn fill_with(
        &'static self,
        index: usize,
        lock: LockId,
        store: impl FnOnce(&AtomicU64, u64),
    ) -> Entry {
        let slot = &self.slots[index];
        self.used.set(self.used.get() | 1 << index);
        slot.depth.set(1);
        store(&slot.lock, lock.bits());
        Entry {
            record: self,
            index,
        }
    }
}

/// The entry of the calling thread for `lock`.
fn find(first: &'static Record, lock: LockId) -> Option<Entry> {
    let mut record = Some(first);
    while let Some(this) = record {
        let reads = |index: &usize| {
            // Relaxed: only this thread writes it.
            this.used.get() & (1 << index) != 0
                && this.slots[*index].lock.load(Ordering::Relaxed) == lock.bits()
        };
        if let Some(index) = (0..SLOTS).find(reads) {
            return Some(Entry {
                record: this,
                index,
            });
        }
        record = this.more.get();
    }
    None
}

/// Calls `visit` with each thread that reads `lock`, until it gives false.
pub(crate) fn for_each_reader(lock: LockId, mut visit: impl FnMut(ThreadId) -> bool) {
    for record in all() {
        // Sequentially consistent: the heading of this file tells why.
        let reads = |slot: &Slot| slot.lock.load(Ordering::SeqCst) == lock.bits();
        if record.slots.iter().any(reads) {
            // Relaxed: the thread entered itself before it filled a slot.
            let thread = ThreadId::from_bits(record.thread.load(Ordering::Relaxed));
            if thread.is_some_and(|thread| !visit(thread)) {
                return;
            }
        }
    }
}

/// Whether any thread reads `lock`.
pub(crate) fn is_read(lock: LockId) -> bool {
    let mut is_read = false;
    for_each_reader(lock, |_| {
        is_read = true;
        false
    });
    is_read
}

/// Takes off the entries for `lock` of threads that a fork left behind.
pub(crate) fn forget_gone_readers(lock: LockId) {
    for record in all() {
        let thread = ThreadId::from_bits(record.thread.load(Ordering::Relaxed));
        if thread.is_some_and(ThreadId::is_gone) {
            for slot in &record.slots {
                // Nobody else writes it. Relaxed on failure: another lock's.
                let _ =
                    slot.lock
                        .compare_exchange(lock.bits(), 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
    }
}

fn all() -> impl Iterator<Item = &'static Record> {
    // Sequentially consistent, as the slots: a record that is not in the list yet has no slot filled that would come first.
    let mut next = ALL.load(Ordering::SeqCst);
    std::iter::from_fn(move || {
        // SAFETY: null, or a record, which are never freed.
        let record: &'static Record = unsafe { next.as_ref() }?;
        // Relaxed: it was set before the record was entered in the list, which the first load acquired.
        next = record.next.load(Ordering::Relaxed);
        Some(record)
    })
}

/// Gives the calling thread its first record.
#[cold]
fn take_record() -> &'static Record {
    /// Gives the records of a thread back when it ends.
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
    MINE.set(Some(record));
    if RETURN.try_with(|_| ()).is_err() {
        record.used.set(LATE);
    }
    record
}

/// Gives the records of the calling thread back.
fn return_records() {
    let mut record = MINE.take();
    while let Some(this) = record {
        record = this.more.take();
        this.used.set(this.used.get() & ALL_SLOTS);
        // A slot that is still filled is that of a forgotten guard, and stays.
        if this.used.get() == 0 {
            // Release: for the next thread.
            this.taken.store(false, Ordering::Release);
        }
    }
}

#[cold]
fn return_records_unless_in_use() {
    let mut record = MINE.get();
    while let Some(this) = record {
        if this.used.get() & ALL_SLOTS != 0 {
            return;
        }
        record = this.more.get();
    }
    return_records();
}

fn take_any_record() -> &'static Record {
    let me = ThreadId::current().bits();
    let is_free = |record: &&Record| {
        // Acquire: what the last thread did with it.
        record
            .taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    };
    if let Some(record) = all().find(is_free) {
        record.thread.store(me, Ordering::Relaxed);
        return record;
    }
    let record = Box::leak(Box::new(CachePadded::new(Record {
        slots: Default::default(),
        used: Cell::new(0),
        more: Cell::new(None),
        thread: AtomicU64::new(me),
        taken: AtomicBool::new(true),
        next: AtomicPtr::new(ptr::null_mut()),
    })));
    let mut first = ALL.load(Ordering::Relaxed);
    loop {
        record.next.store(first, Ordering::Relaxed);
        // Sequentially consistent, and with that a release: see `all`.
        match ALL.compare_exchange_weak(first, record, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => return record,
            Err(now) => first = now,
        }
    }
}
