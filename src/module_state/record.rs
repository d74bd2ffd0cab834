//! Storage and reclamation of module states.
//!
//! A Python object, the holder, owns the state. A thread that looks up the state does not have a
//! reference to the holder, and after it has loaded the address of the state, another thread may
//! drop the state. Reference counts would need a lock around the lookup, and a cache line that all
//! threads write to. Instead, a reader stores the id of the state in a slot of its thread, as a
//! reader of a [`PyRwLock`](crate::PyRwLock) does ([`readers`]), and then loads the stage again.
//!
//! # Reclamation
//!
//! A thread decides to free a state only after a barrier that makes all of its readers visible:
//!
//! 1. [`condemn`](Records::condemn) ends the stage in which the state can be found.
//! 2. A full memory barrier on every thread ([`process_fence`]). Every reader is visible after it:
//!    either its slot is, or it has seen that the state is condemned and does not use it.
//! 3. The stage becomes `ABANDONED`. Only now may a thread free the state: this one, or a reader
//!    that leaves, sees this stage, and finds no other reader.
//! 4. Another barrier. A reader that leaves either sees `ABANDONED`, or its slot is empty for the
//!    inspection that follows. So one of the threads frees the state.
//!
//! Where the system has no such barrier, a reader enters with a full fence, which replaces
//! step 2; for step 4 see [`LOOK_AGAIN`]. With a GIL, attached threads run one at a time, and no
//! thread is in the middle of entering or leaving.
//!
//! Records are never freed, so a thread may read a record whose state was dropped. A record is
//! reused for the next state, under another id.

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
    python::{FREE_THREADED, exception_aside},
    wait::{
        process_fence,
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

/// The storage of one state at a time.
pub(super) struct Record<T: ModuleData> {
    /// The id of the state, which readers store in their slots, and its stage:
    ///
    /// | stage | meaning | moved there by |
    /// |---|---|---|
    /// | `FREE` (no id) | no state | the thread that drops the state, from `DROPPING` |
    /// | `NEW` | has a holder | the thread that creates the holder, from `FREE` |
    /// | `LIVE` | lookups find the state | the first thread that sees it initialized, from `NEW` |
    /// | `CONDEMNED` | not found, has a holder | the end of the holder, from `NEW` or `LIVE` |
    /// | `ABANDONED` | no holder | the drop of the holder, from `CONDEMNED` |
    /// | `DROPPING` | no readers | the drop of the holder or a reader, from `ABANDONED` |
    ///
    /// A `NEW` state may be uninitialized. The end of the holder is its finalizer, `__clear__` or
    /// drop.
    word: AtomicU64,
    /// The module of the state. The holder keeps it alive: while the state is live, no other module
    /// has this address.
    module: AtomicPtr<ffi::PyObject>,
    /// Constant once the record is in the list.
    next: AtomicPtr<Record<T>>,
    /// Replaced only in the stage `DROPPING`, by the thread that moved the record there.
    cell: UnsafeCell<PyOnceLock<T>>,
}

// SAFETY:
// - `PyOnceLock<T>` is `Sync`, because `T` is `Send` and `Sync`.
// - One thread at a time replaces the cell. It may drop a `T` of another thread, which is `Send`.
unsafe impl<T: ModuleData> Sync for Record<T> {}

/// A weak reference to a state. The id tells the state from later ones in the same record.
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
    /// A hint: the record that went live last. Its state may have been dropped.
    latest: AtomicPtr<Record<T>>,
    /// Number of live states.
    live: AtomicUsize,
    /// The first record of the list, which only grows.
    first: AtomicPtr<Record<T>>,
}

/// An RAII guard of a thread that reads a state.
pub(super) struct Reading<T: ModuleData> {
    record: &'static Record<T>,
    entry: ManuallyDrop<Entry>,
}

/// The reason why a lookup without a module has no unambiguous result.
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

    /// Reserves a record for a new state of `module`.
    pub(super) fn take(&self, module: &Bound<'_, PyModule>) -> Place<T> {
        process_fence::prepare(module.py());
        let id = LockId::new();
        let is_taken = |record: &&'static Record<T>| {
            // Acquire: synchronizes with the thread that dropped the previous state.
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
        // Relaxed: `go_live` releases it, and readers acquire that.
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
            // Release: publishes the initialized record.
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
            // SAFETY: the pointer is null, or from `add`, which leaks the record.
            let record: &'static Record<T> = unsafe { next.as_ref() }?;
            // Relaxed: `next` was stored before the record was published; the first load acquired
            // it.
            next = record.next.load(Ordering::Relaxed);
            Some(record)
        })
    }

    #[inline(always)]
    fn latest(&self) -> Option<&'static Record<T>> {
        // SAFETY:
        // - The pointer is null, or from `add`, which leaks the record.
        // - The load acquires the initialized record.
        unsafe { self.latest.load(Ordering::Acquire).as_ref() }
    }

    /// Makes an initialized state visible to lookups, unless it is live or condemned already.
    pub(super) fn go_live(&self, place: Place<T>) {
        let Place { record, id } = place;
        // Release: publishes the state and `module`.
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

    /// Hides the state from lookups.
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

    /// Drops the state, or leaves that to its last reader. Called by the drop of the holder.
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

    /// Returns the only live state if it is the one that went live last.
    #[inline(always)]
    pub(super) fn latest_and_only(&self) -> Option<Reading<T>> {
        let reading = self.latest()?.read()?;
        // Loaded after the state was found live, so the count includes this state. Relaxed: a state
        // that goes live concurrently counts as later.
        (self.live.load(Ordering::Relaxed) == 1).then_some(reading)
    }

    /// Returns the only live state.
    pub(super) fn only(&self) -> Result<Reading<T>, NotOne> {
        loop {
            let mut live: Vec<_> = self.all().filter_map(Record::read).collect();
            // A state condemned during the scan may have been replaced by another one in the list.
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

    /// Returns the live state of `module` if it is the one that went live last.
    #[inline(always)]
    pub(super) fn latest_of(&self, module: &Bound<'_, PyModule>) -> Option<Reading<T>> {
        self.latest()?.read_of(module.as_ptr())
    }

    /// Returns the live state of `module`.
    pub(super) fn of(&self, module: &Bound<'_, PyAny>) -> Option<Reading<T>> {
        let module = module.as_ptr();
        self.all()
            .filter(|record| record.is_of(module))
            .find_map(|record| record.read_of(module))
    }
}

impl<T: ModuleData> Record<T> {
    /// Returns whether the state belongs to `module`. Only a hint unless the caller reads the
    /// state, because the record may be reused.
    #[inline(always)]
    fn is_of(&self, module: *mut ffi::PyObject) -> bool {
        // Relaxed: `read` has acquired the module of a live state.
        self.module.load(Ordering::Relaxed) == module
    }

    /// Reads the state if it is live and belongs to `module`.
    #[inline(always)]
    fn read_of(&'static self, module: *mut ffi::PyObject) -> Option<Reading<T>> {
        let reading = self.read()?;
        self.is_of(module).then_some(reading)
    }

    /// Reads the state if it is live.
    #[inline(always)]
    fn read(&'static self) -> Option<Reading<T>> {
        let seen = self.word.load(Ordering::Relaxed);
        if seen & STAGE != LIVE {
            return None;
        }
        let id = LockId::from_bits(seen >> STAGE_BITS)?;
        self.read_if(seen, id)
    }

    /// Reads the state `id` if the word is still `live`.
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
        // - The holder, through which the cell is initialized and traversed, was dropped.
        // - The state has no readers.
        let state = std::mem::take(unsafe { &mut *self.cell.get() });
        // Release: for the next state in this record. Before the drop, which may run arbitrary
        // code.
        self.word.store(FREE, Ordering::Release);
        if state.is_initialized() {
            // SAFETY: the thread is attached, because it drops a holder or a `StateRef`.
            let py = unsafe { Python::assume_attached() };
            // An exception may be propagating, which `clear` must not see.
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
    /// Returns the cell for the state.
    ///
    /// # Safety
    ///
    /// The holder of the state outlives the result.
    pub(super) unsafe fn cell(&self) -> &PyOnceLock<T> {
        // SAFETY: the cell is replaced only after the holder was dropped.
        unsafe { &*self.record.cell.get() }
    }

    /// Reads the state if it is live.
    #[inline]
    pub(super) fn read(&self) -> Option<Reading<T>> {
        let live = word(self.id, LIVE);
        if self.record.word.load(Ordering::Relaxed) != live {
            return None;
        }
        self.record.read_if(live, self.id)
    }

    /// Returns `true` if the state was condemned, abandoned or dropped.
    pub(super) fn is_condemned(&self) -> bool {
        // Relaxed: the result is final, and the caller reads no other data because of it.
        let seen = self.record.word.load(Ordering::Relaxed);
        seen != word(self.id, NEW) && seen != word(self.id, LIVE)
    }

    /// Returns `true` if any thread reads the state.
    pub(super) fn is_read(&self) -> bool {
        readers::is_read(self.id)
    }
}

impl<T: ModuleData> Reading<T> {
    fn is_live(&self) -> bool {
        self.record.word.load(Ordering::Relaxed) & STAGE == LIVE
    }

    pub(super) fn place(&self) -> Place<T> {
        // Relaxed: a record with readers is not reused.
        let bits = self.record.word.load(Ordering::Relaxed) >> STAGE_BITS;
        Place {
            record: self.record,
            id: LockId::from_bits(bits).expect("a state that is read has an id"),
        }
    }

    #[inline(always)]
    pub(super) fn state(&self) -> &T {
        // SAFETY: the cell is replaced only while the state has no readers, and `self` is a reader:
        // the state was live after its slot was filled.
        let state = unsafe { &*self.record.cell.get() }.peek();
        // SAFETY: a state goes live after its cell was initialized.
        unsafe { state.unwrap_unchecked() }
    }
}

impl<T: ModuleData> Drop for Reading<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `entry` is not used again.
        let entry = unsafe { ManuallyDrop::take(&mut self.entry) };
        // Relaxed: `drop_if_unread` acquires the stage. If the record was reused and the new state
        // is abandoned too, it drops that one.
        let word = &self.record.word;
        if entry.leave() && word.load(Ordering::Relaxed) & STAGE == ABANDONED {
            self.record.drop_if_unread();
        }
    }
}
