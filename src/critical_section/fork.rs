//! Forks: a forked child never waits for a critical section of a thread that does not exist there
//! (invariant I7).
//!
//! CPython hands a contended mutex over: if a waiter has been parked for more than a millisecond,
//! the unlocking thread makes it the owner, although it is parked and detached. A mutex that was
//! handed over when the process forked stays locked in the child, where its owner does not exist.
//! Two kinds of sections would wait for it:
//!
//! - **Sections that begin in the child.** Those of a `PyProtected` use another mutex than before
//!   the fork: each fork [`generation`] has its own ([`lock`](super::lock)).
//! - **Sections that the forking thread began before the fork.** The suspended ones are resumed by
//!   CPython, on the mutex they began with, when the section above them ends or when the thread
//!   attaches. The child unlocks these mutexes before `fork` returns.
//!
//! # Which mutexes the child unlocks
//!
//! CPython links the sections of a thread through the stack of the thread:
//!
//! | word | content |
//! |---|---|
//! | `PyThreadState.critical_section` | link to the innermost section |
//! | `PyCriticalSection._cs_prev` | link to the enclosing section |
//! | lowest bit of a link | the section is suspended |
//! | second bit of a link | the section has a second mutex |
//!
//! An active section of the thread holds its mutexes. Every other mutex of the list is either
//! unlocked or locked for a thread that does not exist in the child, so it is unlocked. That
//! includes the mutexes of Python objects:
//!
//! - If the mutex stayed locked, the child would always hang when the section is resumed.
//! - `os.fork` stops the world, which suspends the sections of all other threads. So no thread is
//!   in the middle of changing an object: the owner is a waiter that has yet to attach.
//! - After a bare `fork` from C another thread may have been in the middle of a change. CPython
//!   does not support running Python code in such a child.
//!
//! The mutexes lose their parked waiters, too, since no waiter exists in the child.
//!
//! # Finding the list
//!
//! The handler that runs in the child needs the list even if the thread is detached: attaching
//! resumes the innermost section, and would hang. The offset of `critical_section` in
//! `PyThreadState` differs between versions and is not public. [`find_list`] begins a section and
//! searches the thread state for its address. In versions of Python later than [`LATEST`] the list
//! may look different. There, as after a failed search, the child leaves the mutexes unchanged.

use std::{
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering},
};

use pyo3::{ffi, prelude::*};

use crate::{
    python::{
        FREE_THREADED, PyCriticalSection_Begin, PyCriticalSection_End,
        PyGILState_GetThisThreadState, exception_aside,
    },
    wait::fork::run_in_child,
};

/// Fork depth of this process since the first section, or [`UNPREPARED`] before it.
static GENERATION: AtomicU32 = AtomicU32::new(UNPREPARED);

const UNPREPARED: u32 = u32::MAX;

/// Offset of `critical_section` in `PyThreadState`, in bytes, or [`UNKNOWN`].
static LIST: AtomicUsize = AtomicUsize::new(UNKNOWN);

const UNKNOWN: usize = usize::MAX;

/// The latest version of Python whose list of sections is known to have this layout.
const LATEST: (u8, u8) = (3, 15);

/// Number of words of the thread state to search. The state is larger in every known version.
const SEARCHED: usize = 64;

/// Returns a number below `COUNT` that differs between a forked child and its ancestors, up to a
/// fork depth of `COUNT - 1`.
#[inline(always)]
pub(super) fn generation<const COUNT: u32>(py: Python<'_>) -> usize {
    // Relaxed: a child stores the generation while it has one thread.
    let generation = GENERATION.load(Ordering::Relaxed);
    if generation < COUNT {
        generation as usize
    } else {
        unusual_generation(py).min(COUNT - 1) as usize
    }
}

/// Prepares for forks inside a section of a Python object, which does not use the generation.
#[inline(always)]
pub(super) fn prepare(py: Python<'_>) {
    if FREE_THREADED {
        generation::<UNPREPARED>(py);
    }
}

/// Returns the generation, preparing for forks on the first call.
#[cold]
fn unusual_generation(py: Python<'_>) -> u32 {
    let generation = GENERATION.load(Ordering::Relaxed);
    if generation != UNPREPARED {
        return generation;
    }
    // Relaxed: the exchange below publishes it.
    LIST.store(find_list(py).unwrap_or(UNKNOWN), Ordering::Relaxed);
    // Threads that race here each install the handler, which acts once in a child. A flag that lets
    // one thread install it would promise the others a handler that is not there yet.
    run_in_child(in_child);
    // Release: a thread that sees the generation and forks also sees the offset.
    match GENERATION.compare_exchange(UNPREPARED, 0, Ordering::Release, Ordering::Relaxed) {
        Ok(_) => 0,
        Err(generation) => generation,
    }
}

/// A section in CPython's layout, that of `PyCriticalSection2`.
///
/// A `PyCriticalSection` has the first two fields only.
#[repr(C)]
struct Section {
    /// The link to the enclosing section.
    enclosing: usize,
    first: *const AtomicU8,
    second: *const AtomicU8,
}

const SUSPENDED: usize = 1;
const TWO_MUTEXES: usize = 2;

/// The locked bit of a `PyMutex`.
const LOCKED: u8 = 1;

/// Returns the offset of `critical_section` in `PyThreadState`, in bytes.
fn find_list(py: Python<'_>) -> Option<usize> {
    let version = py.version_info();
    if !FREE_THREADED || (version.major, version.minor) > LATEST {
        return None;
    }
    let object = new_object(py)?;
    let mut section = Section {
        enclosing: 0,
        first: ptr::null(),
        second: ptr::null(),
    };
    let section = &raw mut section;
    // SAFETY:
    // - The thread is attached, by the token.
    // - `section` has room for a `PyCriticalSection`, does not move, and ends below.
    // - The object outlives the section.
    unsafe { PyCriticalSection_Begin(section.cast(), object.as_ptr()) };
    // SAFETY:
    // - `section` was initialized above, and this thread alone writes to it.
    // - The mutex of a section that has begun is valid.
    let mutex = unsafe { (*section).first.as_ref() };
    // In an interpreter with a GIL the section has no mutex.
    let is_locked = mutex.is_some_and(|mutex| mutex.load(Ordering::Relaxed) == LOCKED);
    // SAFETY: the thread is attached, by the token.
    let thread_state = unsafe { ffi::PyThreadState_Get() };
    // SAFETY:
    // - The thread state of every known free-threaded version has this many words, aligned as
    //   pointers are.
    // - It lives while the thread is attached.
    // - The loads are atomic, because other threads change some of the words.
    let word = |index| unsafe {
        let word = thread_state.cast::<AtomicUsize>().add(index);
        (*word).load(Ordering::Relaxed)
    };
    let found = is_locked
        .then(|| (0..SEARCHED).find(|&index| word(index) == section.addr()))
        .flatten();
    // SAFETY:
    // - The section began above, on this thread, which is still attached.
    // - No section began since.
    unsafe { PyCriticalSection_End(section.cast()) };
    // SAFETY: as for `mutex`.
    let enclosing = unsafe { (*section).enclosing };
    // A different field that held the same address by chance would still hold it.
    let index = found.filter(|&index| word(index) == enclosing)?;
    Some(index * size_of::<usize>())
}

extern "C" fn in_child() {
    /// The last child in which this ran.
    static CHILD: AtomicU32 = AtomicU32::new(0);

    // The handler is installed several times if threads race for the first section.
    if CHILD.swap(std::process::id(), Ordering::Relaxed) == std::process::id() {
        return;
    }
    let generation = GENERATION.load(Ordering::Relaxed);
    if generation != UNPREPARED {
        // Saturates below `UNPREPARED`.
        let next = (generation + 1).min(UNPREPARED - 1);
        GENERATION.store(next, Ordering::Relaxed);
    }
    // SAFETY: no preconditions.
    let is_initialized = unsafe { ffi::Py_IsInitialized() } != 0;
    let offset = LIST.load(Ordering::Relaxed);
    // During finalization, no thread that may fork resumes a section, and the state of this thread
    // may have been freed.
    if offset == UNKNOWN || !is_initialized {
        return;
    }
    // SAFETY: no preconditions.
    let thread_state = unsafe { PyGILState_GetThisThreadState() };
    if thread_state.is_null() {
        return; // The thread was never attached.
    }
    // SAFETY:
    // - The thread state belongs to this thread, and lives.
    // - `find_list` found the link at this offset.
    // - The handler runs in the child, where no other thread exists.
    unsafe {
        let list = *thread_state.byte_add(offset).cast::<usize>();
        unlock_lost(list);
    }
}

/// Unlocks the mutexes that no active section of this thread holds.
///
/// # Safety
///
/// - `list` is the link to the innermost section of this thread.
/// - No other thread exists.
unsafe fn unlock_lost(list: usize) {
    // Two passes, because an active section may hold the mutex of a suspended one.
    // SAFETY: guaranteed by the caller.
    unsafe {
        for_each_mutex(list, |_, mutex| mutex.store(0, Ordering::Relaxed));
        for_each_mutex(list, |is_active, mutex| {
            if is_active {
                mutex.store(LOCKED, Ordering::Relaxed);
            }
        });
    }
}

/// Calls `visit` with each mutex, and whether its section is active.
///
/// # Safety
///
/// As [`unlock_lost`].
unsafe fn for_each_mutex(list: usize, visit: impl Fn(bool, &AtomicU8)) {
    let mut link = list;
    while link != 0 {
        let section = (link & !(SUSPENDED | TWO_MUTEXES)) as *const Section;
        // SAFETY:
        // - The section has not ended, so it is in a live frame of this stack, as are the others.
        // - A section without the bit is a `PyCriticalSection`: its second mutex is not read.
        // - The mutexes of a section are valid or null.
        unsafe {
            let mutexes = [
                (*section).first,
                if link & TWO_MUTEXES == 0 {
                    ptr::null()
                } else {
                    (*section).second
                },
            ];
            for mutex in mutexes.iter().filter_map(|mutex| mutex.as_ref()) {
                visit(link & SUSPENDED == 0, mutex);
            }
            link = (*section).enclosing;
        }
    }
}

// The links rely on it: CPython aligns sections so that the low bits of a link are free.
const _: () = assert!(align_of::<Section>() > (SUSPENDED | TWO_MUTEXES));
const _: () = assert!(offset_of!(Section, second) == 2 * size_of::<usize>());

/// Creates a plain `object`, whose critical section can be held.
pub(super) fn new_object(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // Sections begin in destructors too, while an exception is pending.
    exception_aside(py, || {
        let object_type = (&raw mut ffi::PyBaseObject_Type).cast();
        // SAFETY:
        // - The thread is attached, by the token.
        // - `object_type` is a type, and the result of calling it a new reference or null.
        let object = unsafe {
            let object = ffi::PyObject_CallObject(object_type, ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, object)
        };
        object.ok()
    })
}
