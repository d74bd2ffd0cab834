//! Storage of module states.
//!
//! A Python object, the holder, owns a state. A thread that looks up the state has no reference to
//! the holder. It finds the state through a record, and protects it as a reader of a
//! [`PySnapshot`](crate::PySnapshot) does ([`raw`](crate::snapshot::raw)). When the holder is
//! dropped, the state is freed, or its last reader frees it.
//!
//! Records are never freed, so a thread may look at a record whose state was freed. A record is
//! reused for later states.

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
};

use pyo3::{ffi, prelude::*};

use super::ModuleData;
use crate::{
    PyOnceLock,
    python::exception_aside,
    snapshot::raw::{self, Source},
    wait::readers::Entry,
};

/// The storage of one state.
struct State<T> {
    /// Distinguishes the state from later ones.
    id: u64,
    /// The module of the state. The holder keeps it alive: while the state is live, no other module
    /// has this address.
    module: *mut ffi::PyObject,
    cell: PyOnceLock<T>,
}

/// A place where lookups find one state at a time.
pub(super) struct Record<T: ModuleData> {
    /// | pointer | meaning | stored by |
    /// |---|---|---|
    /// | null | free | the end of the holder |
    /// | state, with [`HIDDEN`] | reserved for a state that may be uninitialized | the new holder |
    /// | state | *live*: lookups find the state | the first thread that sees it initialized |
    ///
    /// The end of the holder is its finalizer, `__clear__` or drop. The state is *condemned* then.
    source: Source,
    /// A hint: the module of the last state. A lookup skips records of other modules unread.
    module: AtomicPtr<ffi::PyObject>,
    /// Constant once the record is in the list.
    next: AtomicPtr<Record<T>>,
    _state: PhantomData<&'static T>,
}

/// Set in the pointer to a state that lookups do not find yet.
const HIDDEN: usize = 1;

fn hidden(state: *mut ()) -> *mut () {
    state.map_addr(|address| address | HIDDEN)
}

/// Returns the pointer to a live state, or `None` for the other pointers of a record.
#[inline(always)]
fn live(pointer: *mut ()) -> Option<*mut ()> {
    (!pointer.is_null() && pointer.addr() & HIDDEN == 0).then_some(pointer)
}

/// A weak reference to a state.
pub(super) struct Place<T: ModuleData> {
    source: &'static Source,
    id: u64,
    _state: PhantomData<&'static T>,
}

impl<T: ModuleData> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ModuleData> Copy for Place<T> {}

/// All records of one `ModuleState`.
pub(super) struct Records<T: ModuleData> {
    /// A hint: the record that went live last. Its state may have been freed.
    latest: AtomicPtr<Record<T>>,
    /// Number of live states.
    live: AtomicUsize,
    /// The first record of the list, which only grows.
    first: AtomicPtr<Record<T>>,
}

/// The state of a holder. Dropping it frees the state, or leaves that to the last reader.
pub(super) struct Owned<T: ModuleData> {
    records: &'static Records<T>,
    record: &'static Record<T>,
    state: *mut State<T>,
}

// SAFETY: sharing or sending it does so with a `&T` and a `T`, which are `Send` and `Sync`. The
// module is only compared.
unsafe impl<T: ModuleData> Send for Owned<T> {}
// SAFETY: as above.
unsafe impl<T: ModuleData> Sync for Owned<T> {}

/// An RAII guard of a thread that reads a state.
pub(super) struct Reading<'py, T: ModuleData> {
    reading: raw::Reading<'static>,
    /// Keeps the guard on its thread, attached: dropping it may drop the state.
    py: Python<'py>,
    _state: PhantomData<&'static T>,
}

/// The reason why a lookup without a module has no unambiguous result.
pub(super) enum NotOne {
    None,
    /// Number of live states.
    Several(usize),
}

impl<T: ModuleData> Records<T> {
    pub(super) const fn new() -> Self {
        Records {
            latest: AtomicPtr::new(ptr::null_mut()),
            live: AtomicUsize::new(0),
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Creates an empty state of `module`, which lookups do not find yet.
    pub(super) fn create(&'static self, module: &Bound<'_, PyModule>) -> Owned<T> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let state = Box::into_raw(Box::new(State {
            // Relaxed: only uniqueness matters.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            module: module.as_ptr(),
            cell: PyOnceLock::new(),
        }));
        let is_reserved = |record: &&'static Record<T>| {
            let source = &record.source;
            source.replace(ptr::null_mut(), hidden(state.cast()))
        };
        let record = self.all().find(is_reserved).unwrap_or_else(|| {
            let record = Box::leak(Box::new(Record {
                source: Source::new(),
                module: AtomicPtr::new(ptr::null_mut()),
                next: AtomicPtr::new(ptr::null_mut()),
                _state: PhantomData,
            }));
            is_reserved(&&*record);
            self.add(record);
            record
        });
        // Relaxed: a thread that can find the state has synchronized with `go_live`, which follows.
        record.module.store(module.as_ptr(), Ordering::Relaxed);
        Owned {
            records: self,
            record,
            state,
        }
    }

    fn add(&self, record: &'static Record<T>) {
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            record.next.store(first, Ordering::Relaxed);
            let new = ptr::from_ref(record).cast_mut();
            // Release: publishes the initialized record.
            match self
                .first
                .compare_exchange_weak(first, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &'static Record<T>> + use<'_, T> {
        let mut next = self.first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: the pointer is null, or from `create`, which leaks the record.
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
        // - The pointer is null, or from `create`, which leaks the record.
        // - The load acquires the initialized record.
        unsafe { self.latest.load(Ordering::Acquire).as_ref() }
    }

    fn note_latest(&self, record: &'static Record<T>) {
        let record = ptr::from_ref(record).cast_mut();
        self.latest.store(record, Ordering::Release);
    }

    /// Returns the only live state if it is the one that went live last.
    #[inline(always)]
    pub(super) fn latest_and_only<'py>(&self, py: Python<'py>) -> Option<Reading<'py, T>> {
        let reading = self.latest()?.read(py)?;
        // Loaded after the state was found live, so the count includes this state. Relaxed: a state
        // that goes live concurrently counts as later.
        reading.keep_if(self.live.load(Ordering::Relaxed) == 1)
    }

    /// Returns the only live state.
    pub(super) fn only<'py>(&self, py: Python<'py>) -> Result<Reading<'py, T>, NotOne> {
        loop {
            let records = self.all();
            let mut live: Vec<_> = records
                .filter_map(|record| Some((record, record.read(py)?)))
                .collect();
            // A state condemned during the scan may have been replaced by another one in the list.
            if !live.iter().all(|(_, state)| state.is_live()) {
                continue;
            }
            let (record, only) = live.pop().ok_or(NotOne::None)?;
            if live.is_empty() {
                self.note_latest(record);
                return Ok(only);
            }
            return Err(NotOne::Several(live.len() + 1));
        }
    }

    /// Returns the live state of `module` if it is the one that went live last.
    #[inline(always)]
    pub(super) fn latest_of<'py>(&self, module: &Bound<'py, PyModule>) -> Option<Reading<'py, T>> {
        self.latest()?.read_of(module)
    }

    /// Returns the live state of `module`.
    pub(super) fn of<'py>(&self, module: &Bound<'py, PyModule>) -> Option<Reading<'py, T>> {
        self.all().find_map(|record| record.read_of(module))
    }
}

impl<T: ModuleData> Record<T> {
    /// Reads the state if it is live and belongs to `module`.
    #[inline(always)]
    fn read_of<'py>(&'static self, module: &Bound<'py, PyModule>) -> Option<Reading<'py, T>> {
        // Relaxed: if the state went live before this lookup, its module was stored before.
        if self.module.load(Ordering::Relaxed) != module.as_ptr() {
            return None;
        }
        let reading = self.read(module.py())?;
        let is_wanted = reading.storage().module == module.as_ptr();
        reading.keep_if(is_wanted)
    }

    /// Reads the state if it is live.
    #[inline(always)]
    fn read<'py>(&'static self, py: Python<'py>) -> Option<Reading<'py, T>> {
        // SAFETY: the source is that of a record for `T`.
        unsafe { Reading::new(&self.source, py) }
    }
}

impl<T: ModuleData> Owned<T> {
    fn storage(&self) -> &State<T> {
        // SAFETY: the state is freed only after `self` was dropped.
        unsafe { &*self.state }
    }

    /// Returns `true` if the state belongs to the `ModuleState` with these records.
    pub(super) fn is_of(&self, records: &'static Records<T>) -> bool {
        ptr::eq(self.records, records)
    }

    /// Returns the cell for the state.
    pub(super) fn cell(&self) -> &PyOnceLock<T> {
        &self.storage().cell
    }

    /// Makes an initialized state visible to lookups, unless it is live or condemned already.
    pub(super) fn go_live(&self) {
        let state = self.state.cast();
        if self.record.source.replace(hidden(state), state) {
            self.records.live.fetch_add(1, Ordering::Relaxed);
            self.records.note_latest(self.record);
        }
    }

    /// Hides the state from lookups.
    pub(super) fn condemn(&self) {
        let (source, state) = (&self.record.source, self.state.cast());
        // In this order: the state may go live in between.
        if !source.replace(hidden(state), ptr::null_mut()) && source.replace(state, ptr::null_mut())
        {
            self.records.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns `true` if the state was condemned.
    pub(super) fn is_condemned(&self) -> bool {
        let (pointer, state) = (self.record.source.load(), self.state.cast());
        pointer != state && pointer != hidden(state)
    }

    /// Reads the state if it is live.
    pub(super) fn read<'py>(&self, py: Python<'py>) -> Option<Reading<'py, T>> {
        let reading = self.record.read(py)?;
        // After the end of this state, the record may have another one.
        let is_this = ptr::eq(reading.storage(), self.storage());
        reading.keep_if(is_this)
    }

    /// Returns `true` if any thread reads the state.
    pub(super) fn is_read(&self) -> bool {
        // SAFETY: the state is not null.
        unsafe { raw::is_read(self.state.cast()) }
    }
}

impl<T: ModuleData> Drop for Owned<T> {
    fn drop(&mut self) {
        self.condemn();
        // SAFETY: the thread is attached, because it drops a Python object.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: the state is not null.
        if unsafe { self.record.source.retire(py, self.state.cast()) } {
            // SAFETY:
            // - The state is condemned, and the source has found no readers.
            // - The holder is being dropped, and has no reference to the state.
            unsafe { free(self.state, py) };
        }
    }
}

/// Drops the state and frees its storage.
///
/// # Safety
///
/// The storage comes from [`Records::create`], was not freed, and is not used any more.
unsafe fn free<T: ModuleData>(state: *mut State<T>, py: Python<'_>) {
    // SAFETY: guaranteed by the caller.
    let state = unsafe { Box::from_raw(state) };
    // An exception may be propagating, which `clear` must not see.
    exception_aside(py, || {
        let state = state;
        if let Some(state) = state.cell.peek() {
            state.clear(py);
        }
    });
}

impl<T: ModuleData> Place<T> {
    /// Reads the state if it is live.
    #[inline]
    pub(super) fn read<'py>(&self, py: Python<'py>) -> Option<Reading<'py, T>> {
        // SAFETY: the source is that of a record for `T`.
        let reading = unsafe { Reading::new(self.source, py) }?;
        let is_this = reading.storage().id == self.id;
        reading.keep_if(is_this)
    }
}

impl<'py, T: ModuleData> Reading<'py, T> {
    /// Reads the state of `source` if it is live.
    ///
    /// # Safety
    ///
    /// The source is that of a `Record<T>`.
    #[inline(always)]
    unsafe fn new(source: &'static Source, py: Python<'py>) -> Option<Self> {
        let state = live(source.load())?;
        Some(Reading {
            // SAFETY: the state was just loaded, and is not null.
            reading: unsafe { source.read(py, state) }?,
            py,
            _state: PhantomData,
        })
    }

    /// Returns `self`, or leaves the state if it is not wanted.
    #[inline(always)]
    fn keep_if(self, is_wanted: bool) -> Option<Self> {
        if is_wanted {
            return Some(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither used again nor dropped.
        let (source, state, entry) = unsafe { ptr::read(&this.reading) }.into_parts();
        // SAFETY: the parts are those of the guard.
        unsafe { discard::<T>(source, state, entry, this.py) };
        None
    }

    #[inline(always)]
    fn is_live(&self) -> bool {
        self.reading.is_current()
    }

    #[inline(always)]
    fn storage(&self) -> &State<T> {
        // SAFETY: the state was live after this thread had announced it, and is in a slot, so it is
        // not freed before `self`.
        unsafe { &*self.reading.node().cast() }
    }

    pub(super) fn place(&self) -> Place<T> {
        Place {
            source: self.reading.source(),
            id: self.storage().id,
            _state: PhantomData,
        }
    }

    #[inline(always)]
    pub(super) fn state(&self) -> &T {
        // SAFETY: a state goes live after its cell was initialized.
        unsafe { self.storage().cell.peek().unwrap_unchecked() }
    }
}

impl<T: ModuleData> Drop for Reading<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let py = self.py;
        // SAFETY:
        // - Called once.
        // - References to the state borrow from `self`, which is being dropped.
        // - `free` is called only if this thread must free the state, which is a `State<T>`.
        unsafe { self.reading.leave(|state| free::<T>(state.cast(), py)) }
    }
}

/// Drops the parts of a guard out of line, so that the guard can stay in registers, and its usual
/// drop can be inlined.
///
/// # Safety
///
/// The parts come from one call of [`raw::Reading::into_parts`], of a guard for `T`.
#[cold]
#[inline(never)]
unsafe fn discard<T: ModuleData>(
    source: &'static Source,
    state: *mut (),
    entry: Entry,
    py: Python<'_>,
) {
    drop(Reading::<T> {
        // SAFETY: guaranteed by the caller.
        reading: unsafe { raw::Reading::from_parts(source, state, entry) },
        py,
        _state: PhantomData,
    });
}
