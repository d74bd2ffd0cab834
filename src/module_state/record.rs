//! Storage and reclamation of module states.
//!
//! A state belongs to a Python object, its holder, and ends with it. A thread that looks for the
//! state does not know the holder yet, and by the time it has read where the state is, another
//! thread may have dropped it. Reference counts would need a lock around the lookup, and a cache
//! line that all threads write to. Instead a reader enters the state in a slot of its thread, as
//! the reader of a [`PyRwLock`](crate::PyRwLock) does ([`readers`]), and then loads the stage
//! again.
//!
//! # Reclamation
//!
//! Every decision to free a state comes after a barrier that makes all of its readers visible:
//!
//! 1. [`condemn`](Records::condemn) ends the stage in which the state can be found.
//! 2. A full memory barrier on every thread ([`process_fence`]). Every reader is visible after it:
//!    either its slot, or that it has seen the state condemned and does not use it.
//! 3. The stage becomes `ABANDONED`. Only now may a thread free the state: this one, or a reader
//!    that leaves, sees this stage, and finds no other reader.
//! 4. Another barrier. A reader that leaves either sees `ABANDONED`, or its slot is empty for the
//!    inspection that follows. So one of the threads frees the state.
//!
//! Where the system has no such barrier, a reader enters with a full fence, which replaces
//! step 2; for step 4 see [`LOOK_AGAIN`]. With a GIL, attached threads run one at a time, and no
//! thread is in the middle of entering or leaving.
//!
//! Records are never freed, so a record can be read whether its state exists or not. It is reused
//! for the next state, under another id.

use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    thread,
    time::{Duration, Instant},
};

use pyo3::{ffi, prelude::*};

use super::ModuleData;
use crate::{
    PyOnceLock,
    build_config::FREE_THREADED,
    wait::{
        exception_aside, process_fence,
        readers::{self, Entry, LockId},
    },
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

/// Without the barrier: time for which the thread that abandons a state inspects the slots again
/// before it leaves the state to its readers.
///
/// A reader that has left may have missed `ABANDONED` while its empty slot is not visible yet.
/// This is longer than a processor delays a store. ([`readers`] has the same race.)
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// The place of one state.
pub(super) struct Record<T: ModuleData> {
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
unsafe impl<T: ModuleData> Sync for Record<T> {}

/// A state, named so that it cannot be taken for a later one in the same record.
pub(super) struct Place<T: ModuleData> {
    record: &'static Record<T>,
    id: LockId,
}

impl<T: ModuleData> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ModuleData> Copy for Place<T> {}

/// All records of one `ModuleState`.
pub(super) struct Records<T: ModuleData> {
    /// The record that went live last. A hint: its state may be gone.
    latest: AtomicPtr<Record<T>>,
    /// How many are live.
    live: AtomicUsize,
    /// The first of the list of all, which only grows.
    first: AtomicPtr<Record<T>>,
}

/// That the calling thread uses a state, until it is left.
pub(super) struct Reading<T: ModuleData> {
    record: &'static Record<T>,
    entry: ManuallyDrop<Entry>,
}

/// Why there is no one state that could be meant.
pub(super) enum NotOne {
    None,
    /// Number of live states.
    Several(usize),
}

fn word(id: LockId, stage: u64) -> u64 {
    id.bits() << STAGE_BITS | stage
}

impl<T: ModuleData> Records<T> {
    pub(super) const fn new() -> Self {
        Records {
            latest: AtomicPtr::new(ptr::null_mut()),
            live: AtomicUsize::new(0),
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A record for a new state, which belongs to `module`.
    pub(super) fn take(&self, module: &Bound<'_, PyModule>) -> Place<T> {
        process_fence::prepare(module.py());
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

    /// Ends the stage in which the state can be found.
    pub(super) fn condemn(&self, place: Place<T>) {
        let Place { record, id } = place;
        let (mut seen, condemned) = (word(id, LIVE), word(id, CONDEMNED));
        loop {
            // Relaxed: nothing is published, and `abandon` inspects the slots after a barrier.
            match record.word.compare_exchange(
                seen,
                condemned,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
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

    /// Drops the state, or leaves that to the last of its readers. Its holder is gone.
    pub(super) fn abandon(&self, place: Place<T>) {
        self.condemn(place);
        let Place { record, id } = place;
        let has_barrier = FREE_THREADED && process_fence::is_available();
        if has_barrier {
            // Every reader that found the state live is visible after this.
            process_fence::for_all_threads();
        }
        // Release: a reader that leaves acts on this, and must see the slots that are visible here.
        record.word.store(word(id, ABANDONED), Ordering::Release);
        if has_barrier {
            // A reader sees the stage when it leaves, or is seen to have left.
            process_fence::for_all_threads();
        }
        let start = Instant::now();
        while !record.drop_if_unread() {
            if has_barrier || !FREE_THREADED || start.elapsed() > LOOK_AGAIN {
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
        loop {
            let mut live: Vec<_> = self.all().filter_map(Record::read).collect();
            // Those that were condemned since may have made room for others, which would be counted with them.
            if !live.iter().all(Reading::is_live) {
                continue;
            }
            let only = live.pop().ok_or(NotOne::None)?;
            if live.is_empty() {
                self.note_latest(only.record);
                return Ok(only);
            }
            return Err(NotOne::Several(live.len() + 1));
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

impl<T: ModuleData> Record<T> {
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
        self.read_if(seen, id)
    }

    /// Begins to use the state with this id, if the word is still `live`.
    #[inline(always)]
    fn read_if(&'static self, live: u64, id: LockId) -> Option<Reading<T>> {
        let entry = if process_fence::is_available() {
            Entry::without_fence(id)
        } else {
            Entry::new(id)
        };
        let reading = Reading {
            record: self,
            entry: ManuallyDrop::new(entry),
        };
        // Sequentially consistent: the entry is too, or the barriers of `abandon` order it before
        // this load. Acquires the state.
        (self.word.load(Ordering::SeqCst) == live).then_some(reading)
    }

    /// Drops the state if it is abandoned and has no readers. Returns `false` if it has readers.
    #[cold]
    fn drop_if_unread(&self) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        let Some(id) = LockId::from_bits(seen >> STAGE_BITS).filter(|_| seen & STAGE == ABANDONED)
        else {
            return true;
        };
        // Acquires the stage, and with it the slots that were visible when the state was abandoned.
        // Sequentially consistent: each of two readers that leave has emptied its slot before, so
        // at least one of them sees both slots empty.
        fence(Ordering::SeqCst);
        if readers::is_read(id) {
            return false;
        }
        // Relaxed: a state that is not live gets no readers, and `is_read` has acquired what the
        // former ones did.
        let moved = self.word.compare_exchange(
            seen,
            word(id, DROPPING),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if moved.is_err() {
            return true;
        }
        // SAFETY:
        // - This thread alone has moved the record to `DROPPING`.
        // - The holder, through which the cell is filled and traversed, is gone.
        // - The state has no readers.
        let state = std::mem::take(unsafe { &mut *self.cell.get() });
        // Release: for the next state in this record. Before the state is cleared and dropped, which may run any code.
        self.word.store(FREE, Ordering::Release);
        if state.is_initialized() {
            // SAFETY: this thread is attached: it is dropping a Python object, the holder, or a `StateRef`.
            let py = unsafe { Python::assume_attached() };
            // It may be doing so while an exception is on its way up.
            exception_aside(py, || {
                let state = state;
                if let Some(state) = state.peek() {
                    state.clear(py);
                }
            });
        }
        true
    }
}

impl<T: ModuleData> Place<T> {
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
    #[inline]
    pub(super) fn read(&self) -> Option<Reading<T>> {
        let live = word(self.id, LIVE);
        if self.record.word.load(Ordering::Relaxed) != live {
            return None;
        }
        self.record.read_if(live, self.id)
    }

    /// Whether the state will not be found any more, whether its holder still exists or not.
    pub(super) fn is_condemned(&self) -> bool {
        // Relaxed: once it is condemned it stays so, and nothing else is read.
        let seen = self.record.word.load(Ordering::Relaxed);
        seen != word(self.id, NEW) && seen != word(self.id, LIVE)
    }

    /// Whether any thread uses the state.
    pub(super) fn is_read(&self) -> bool {
        readers::is_read(self.id)
    }
}

impl<T: ModuleData> Reading<T> {
    fn is_live(&self) -> bool {
        self.record.word.load(Ordering::Relaxed) & STAGE == LIVE
    }

    pub(super) fn place(&self) -> Place<T> {
        // Relaxed: as long as the state has readers, the record serves this state.
        let bits = self.record.word.load(Ordering::Relaxed) >> STAGE_BITS;
        Place {
            record: self.record,
            id: LockId::from_bits(bits).expect("a state that is read has an id"),
        }
    }

    #[inline(always)]
    pub(super) fn state(&self) -> &T {
        // SAFETY: the cell is exchanged only when nobody reads the state, and this reads it: it was live after that was entered.
        let state = unsafe { &*self.record.cell.get() }.peek();
        // SAFETY: a state goes live after its cell was filled.
        unsafe { state.unwrap_unchecked() }
    }
}

impl<T: ModuleData> Drop for Reading<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: not used again.
        let entry = unsafe { ManuallyDrop::take(&mut self.entry) };
        // Relaxed: `drop_if_unread` acquires the stage. The record may serve another state by now,
        // which it then drops.
        let word = &self.record.word;
        if entry.leave() && word.load(Ordering::Relaxed) & STAGE == ABANDONED {
            self.record.drop_if_unread();
        }
    }
}
