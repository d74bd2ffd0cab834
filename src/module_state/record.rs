//! Where a state lies, and how it is kept until nobody looks at it any more.
//!
//! The state belongs to a Python object, its holder, and is to go when that does. But a thread that looks for it knows nothing of the
//! holder yet, and by the time it has read where the state is another thread may have dropped it. To count references would need
//! a lock around the look, and a cache line that all threads write to. Instead a thread that uses a state enters that in a slot
//! of its own, as the reader of a [`PyRwLock`](crate::PyRwLock) does ([`readers`]), and looks once more whether the state is there.
//! Whoever wants to drop it says first that it is gone, and then looks for readers. So one of the two sees the other. A state that
//! is being read is left to the last of its readers.
//!
//! Records are never freed, which makes it safe to look at one whose state may be gone; they serve the next state, under another id.

use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    thread,
    time::{Duration, Instant},
};

use pyo3::{ffi, prelude::*};

use super::State;
use crate::{
    PyOnceLock,
    build_config::FREE_THREADED,
    wait::readers::{self, Entry, LockId},
};

/// The bits of the stage in [`Record::word`]; the id is above them.
const STAGE_BITS: u32 = 3;
const STAGE: u64 = (1 << STAGE_BITS) - 1;

const FREE: u64 = 0;
const NEW: u64 = 1;
const LIVE: u64 = 2;
const CONDEMNED: u64 = 3;
const ABANDONED: u64 = 4;
const DROPPING: u64 = 5;

/// For how long at most the thread that abandons a state looks again for readers, before it leaves the state to them. A reader
/// that has left may not have seen that the state is abandoned, and its leaving not be seen yet: so this must be longer than it takes
/// a processor to write back what it has stored. (The same two may pass each other in [`readers`].)
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// The place of one state.
pub(super) struct Record<T: State> {
    /// The id of the state, which readers enter in their slots, and the stage that it is in:
    ///
    /// | stage | meaning | who moves it there |
    /// |---|---|---|
    /// | `FREE` (and no id) | there is no state | whoever takes the state out to drop it, from `DROPPING` |
    /// | `NEW` | it has a holder, but is perhaps not made yet | the thread that makes the holder, from `FREE` |
    /// | `LIVE` | it is found by those who look for it | the first thread that sees it made, from `NEW` |
    /// | `CONDEMNED` | it is not found any more; its holder still exists | the collector, which found the holder unreachable, or the end of the holder, from `NEW` or `LIVE` |
    /// | `ABANDONED` | its holder is gone | the end of the holder, from `CONDEMNED` |
    /// | `DROPPING` | the state is being taken out | the end of the holder or a thread that has stopped reading, from `ABANDONED`, when nobody reads it |
    word: AtomicU64,
    /// The module that the state was made for. The holder keeps it alive, so as long as the state is live no other module has
    /// this address.
    module: AtomicPtr<ffi::PyObject>,
    /// Set when the record is entered in its list, and not changed.
    next: AtomicPtr<Record<T>>,
    /// Changed only in the stages `FREE` and `DROPPING`, by the one thread that moved the record there or from there.
    cell: UnsafeCell<PyOnceLock<T>>,
}

// SAFETY: the cell is shared, as a `PyOnceLock<T>` is, and exchanged by one thread at a time, which may drop a `T` of another.
unsafe impl<T: State> Sync for Record<T> {}

/// A state, named so that it cannot be taken for a later one in the same record.
pub(super) struct Place<T: State> {
    record: &'static Record<T>,
    id: LockId,
}

impl<T: State> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: State> Copy for Place<T> {}

/// All records of one `ModuleState`.
pub(super) struct Records<T: State> {
    /// The record that went live last. A hint: its state may be gone.
    latest: AtomicPtr<Record<T>>,
    /// How many are live.
    live: AtomicUsize,
    /// The first of the list of all, which only grows.
    first: AtomicPtr<Record<T>>,
}

/// That the calling thread uses a state, until it is left.
pub(super) struct Reading<T: State> {
    record: &'static Record<T>,
    entry: ManuallyDrop<Entry>,
}

/// Why there is no one state that could be meant.
pub(super) enum NotOne {
    None,
    Several(usize),
}

fn word(id: LockId, stage: u64) -> u64 {
    id.bits() << STAGE_BITS | stage
}

impl<T: State> Records<T> {
    pub(super) const fn new() -> Self {
        Records {
            latest: AtomicPtr::new(ptr::null_mut()),
            live: AtomicUsize::new(0),
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A record for a new state, which belongs to `module`.
    pub(super) fn take(&self, module: &Bound<'_, PyModule>) -> Place<T> {
        let id = LockId::new();
        let is_taken = |record: &&'static Record<T>| {
            // Acquire: what was done with the record before.
            let word = &record.word;
            word.compare_exchange(
                FREE,
                self::word(id, NEW),
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
        };
        let record = self.all().find(is_taken).unwrap_or_else(|| self.add(id));
        // Relaxed: it is looked at by those who have seen the state live.
        record.module.store(module.as_ptr(), Ordering::Relaxed);
        Place { record, id }
    }

    fn add(&self, id: LockId) -> &'static Record<T> {
        let record: &'static Record<T> = Box::leak(Box::new(Record {
            word: AtomicU64::new(word(id, NEW)),
            module: AtomicPtr::new(ptr::null_mut()),
            next: AtomicPtr::new(ptr::null_mut()),
            cell: UnsafeCell::new(PyOnceLock::new()),
        }));
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            record.next.store(first, Ordering::Relaxed);
            let new = ptr::from_ref(record).cast_mut();
            // Release: the record is initialised.
            match self
                .first
                .compare_exchange_weak(first, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return record,
                Err(now) => first = now,
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &'static Record<T>> + use<'_, T> {
        let mut next = self.first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: null, or from `add`, which leaks.
            let record: &'static Record<T> = unsafe { next.as_ref() }?;
            // Relaxed: it was set before the record was entered, which the first load acquired.
            next = record.next.load(Ordering::Relaxed);
            Some(record)
        })
    }

    #[inline(always)]
    fn latest(&self) -> Option<&'static Record<T>> {
        // SAFETY: null, or from `add`, which leaks. Acquire: the record is initialised.
        unsafe { self.latest.load(Ordering::Acquire).as_ref() }
    }

    /// Lets the state be found, now that it is made. Does nothing if it is live, or condemned.
    pub(super) fn go_live(&self, place: Place<T>) {
        let Place { record, id } = place;
        // Release: the state, and the module it belongs to.
        let moved = record.word.compare_exchange(
            word(id, NEW),
            word(id, LIVE),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if moved.is_ok() {
            self.live.fetch_add(1, Ordering::Relaxed);
            self.note_latest(record);
        }
    }

    fn note_latest(&self, record: &'static Record<T>) {
        let record = ptr::from_ref(record).cast_mut();
        self.latest.store(record, Ordering::Release);
    }

    /// Lets the state be found no more.
    pub(super) fn condemn(&self, place: Place<T>) {
        let Place { record, id } = place;
        let (mut seen, condemned) = (word(id, LIVE), word(id, CONDEMNED));
        loop {
            // Sequentially consistent: the readers that are looked for afterwards have seen this, or are found.
            match record
                .word
                .compare_exchange(seen, condemned, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) if seen == word(id, LIVE) => {
                    self.live.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
                Ok(_) => return,
                Err(now) if now == word(id, NEW) => seen = now,
                Err(_) => return,
            }
        }
    }

    /// Drops the state, or leaves it to the last of those who read it. Its holder is gone.
    pub(super) fn abandon(&self, place: Place<T>) {
        self.condemn(place);
        let Place { record, id } = place;
        // Sequentially consistent: as in `condemn`. Nobody else moves on from here.
        record.word.store(word(id, ABANDONED), Ordering::SeqCst);
        let start = Instant::now();
        while !record.drop_if_unread() {
            // With a GIL no other attached thread is amid leaving.
            if !FREE_THREADED || start.elapsed() > LOOK_AGAIN {
                return;
            }
            thread::yield_now();
        }
    }

    /// The only live state, if it is the one that went live last.
    #[inline(always)]
    pub(super) fn latest_and_only(&self) -> Option<Reading<T>> {
        let reading = self.latest()?.read()?;
        // After it was found live, so that it is one of those counted. Relaxed: whoever makes another one live at this moment may
        // come after us.
        (self.live.load(Ordering::Relaxed) == 1).then_some(reading)
    }

    /// The only live state.
    pub(super) fn only(&self) -> Result<Reading<T>, NotOne> {
        let mut live = self.all().filter_map(Record::read);
        let only = live.next().ok_or(NotOne::None)?;
        match live.count() {
            0 => {
                self.note_latest(only.record);
                Ok(only)
            }
            others => Err(NotOne::Several(1 + others)),
        }
    }

    /// The live state that was made for this module, if it is the one that went live last.
    #[inline(always)]
    pub(super) fn latest_of(&self, module: &Bound<'_, PyModule>) -> Option<Reading<T>> {
        self.latest()?.read_of(module.as_ptr())
    }

    /// The live state that was made for this module.
    pub(super) fn of(&self, module: &Bound<'_, PyAny>) -> Option<Reading<T>> {
        let module = module.as_ptr();
        self.all()
            .filter(|record| record.is_of(module))
            .find_map(|record| record.read_of(module))
    }
}

impl<T: State> Record<T> {
    /// Whether the state was made for this module: for sure if the caller reads it, else perhaps not, since it may be another
    /// state a moment later.
    #[inline(always)]
    fn is_of(&self, module: *mut ffi::PyObject) -> bool {
        // Relaxed: `read` has acquired what it is for a live state.
        self.module.load(Ordering::Relaxed) == module
    }

    /// Begins to use the state, if it is live and was made for this module.
    #[inline(always)]
    fn read_of(&'static self, module: *mut ffi::PyObject) -> Option<Reading<T>> {
        let reading = self.read()?;
        self.is_of(module).then_some(reading)
    }

    /// Begins to use the state, if it is live.
    #[inline(always)]
    fn read(&'static self) -> Option<Reading<T>> {
        let seen = self.word.load(Ordering::Relaxed);
        if seen & STAGE != LIVE {
            return None;
        }
        let id = LockId::from_bits(seen >> STAGE_BITS)?;
        let reading = Reading {
            record: self,
            entry: ManuallyDrop::new(Entry::new(id)),
        };
        // Sequentially consistent, as the entry: see `readers`. And it acquires the state.
        (self.word.load(Ordering::SeqCst) == seen).then_some(reading)
    }

    /// Gives false if somebody reads the state.
    #[cold]
    fn drop_if_unread(&self) -> bool {
        // Of two readers that leave at the same time, one sees both gone: each has cleared its slot, and then comes here.
        fence(Ordering::SeqCst);
        let seen = self.word.load(Ordering::Relaxed);
        let Some(id) = LockId::from_bits(seen >> STAGE_BITS).filter(|_| seen & STAGE == ABANDONED)
        else {
            return true;
        };
        if readers::is_read(id) {
            return false;
        }
        // Nobody begins to read a state that is not live. Relaxed: `is_read` has acquired what the readers did.
        let moved = self.word.compare_exchange(
            seen,
            word(id, DROPPING),
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if moved.is_err() {
            return true;
        }
        // SAFETY: this thread alone has moved the record to `DROPPING`. The holder is gone, through which the cell is filled and
        // traversed, and nobody reads.
        let state = std::mem::take(unsafe { &mut *self.cell.get() });
        // Release: for the next state in this record. Before the state is cleared and dropped, which may run any code.
        self.word.store(FREE, Ordering::Release);
        if let Some(state) = state.peek() {
            // SAFETY: this thread is attached: it is dropping a Python object, the holder, or a `StateRef`.
            state.clear(unsafe { Python::assume_attached() });
        }
        true
    }
}

impl<T: State> Place<T> {
    /// The cell that the state is in, or will be.
    ///
    /// # Safety
    ///
    /// The holder of the state exists for as long as the result is used.
    pub(super) unsafe fn cell(&self) -> &PyOnceLock<T> {
        // SAFETY: the cell is exchanged only after the holder is gone.
        unsafe { &*self.record.cell.get() }
    }

    /// Begins to use the state, if it is live.
    pub(super) fn read(&self) -> Option<Reading<T>> {
        let reading = self.record.read()?;
        // The record may serve another state by now.
        let word = self.record.word.load(Ordering::Relaxed);
        (word >> STAGE_BITS == self.id.bits()).then_some(reading)
    }

    /// Whether any thread uses the state.
    pub(super) fn is_read(&self) -> bool {
        readers::is_read(self.id)
    }
}

impl<T: State> Reading<T> {
    #[inline(always)]
    pub(super) fn state(&self) -> &T {
        // SAFETY: the cell is exchanged only when nobody reads the state, and this reads it: it was live after that was entered.
        let state = unsafe { &*self.record.cell.get() }.peek();
        // SAFETY: a state goes live after its cell was filled.
        unsafe { state.unwrap_unchecked() }
    }
}

impl<T: State> Drop for Reading<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: not used again.
        let entry = unsafe { ManuallyDrop::take(&mut self.entry) };
        // Relaxed: `LOOK_AGAIN` tells what this look is worth. If the record serves another state by now, that one is looked after.
        let word = &self.record.word;
        if entry.leave() && word.load(Ordering::Relaxed) & STAGE == ABANDONED {
            self.record.drop_if_unread();
        }
    }
}
