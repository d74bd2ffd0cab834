//! The word of a lock: its owner and a few flags, in eight bytes.
//!
//! All locks and cells of the crate share this layout, so that one search of the wait-for graph can
//! follow the owners of all of them:
//!
//! | bits | meaning |
//! |---|---|
//! | 12 and up | the [`ThreadId`] of the owner, or 0 |
//! | 11 | [`SECOND_FLAG`], defined by the lock |
//! | 10 | [`FLAG`], defined by the lock |
//! | 9 | [`UNOWNED`]: the id, if any, is not that of an owner |
//! | 8 | [`PARKED`]: threads may be parked in the queue of this word |
//! | those of the first byte in memory | 0, unless the lock uses it |
//!
//! # Who may write
//!
//! Only attached threads write a word (I3), so writing methods take a token. On a GIL build they
//! need no read-modify-write operation: no other attached thread runs between a load and a store
//! unless this thread detaches.
//!
//! The crate cannot check what this rests on:
//!
//! 1. The token is honest. `Ungil` is `Send` on stable Rust, so an unsafe `Send` wrapper can carry
//!    a token or a guard into a detached closure.
//! 2. One interpreter uses the word. Legacy sub-interpreters share statics, but stop their worlds
//!    separately. Two that have a GIL each would store at the same time. See
//!    [`ensure_single_interpreter`](crate::ensure_single_interpreter).
//! 3. Detached threads do not write. A waiter sets `PARKED` before it detaches, and an attached
//!    thread clears it.

#[cfg(debug_assertions)]
use std::sync::atomic::AtomicPtr;
use std::{
    panic::Location,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use pyo3::Python;

use super::ThreadId;
use crate::python::FREE_THREADED;

/// Threads may be parked in the queue of this word. The unlocking thread must check the queue.
///
/// The flag may outlive the last waiter, because an expired wait leaves it set. If it is clear, no
/// thread is parked, or an unparked waiter is responsible for the others.
pub(crate) const PARKED: u64 = 1 << 8;
/// The word has no owner, even if it contains an id.
pub(crate) const UNOWNED: u64 = 1 << 9;
/// A flag that each lock defines.
pub(crate) const FLAG: u64 = 1 << 10;
/// A second flag that each lock defines.
pub(crate) const SECOND_FLAG: u64 = 1 << 11;

/// The owner of a word while it waits for readers to drain.
///
/// It has not accessed the data yet. If it will never run again, the lock counts as released.
pub(crate) struct DrainingOwner(AtomicU64);

impl DrainingOwner {
    pub(crate) const fn new() -> Self {
        DrainingOwner(AtomicU64::new(0))
    }

    /// Marks the calling thread, which owns the word, as waiting.
    pub(crate) fn begin(&self, _py: Python<'_>) {
        self.0.store(ThreadId::current().bits(), Ordering::Relaxed);
    }

    /// Clears the mark, before the owner accesses the data or releases the word.
    pub(crate) fn end(&self, _py: Python<'_>) {
        // Sequentially consistent: a child that another thread forks must not see later accesses of
        // this thread without the store.
        self.0.store(0, Ordering::SeqCst);
    }

    /// Returns whether `owner`, the owner of the word, is still waiting.
    pub(crate) fn is_draining(&self, owner: ThreadId) -> bool {
        // Relaxed: it decides only about an owner that will never run again.
        self.0.load(Ordering::Relaxed) == owner.bits()
    }
}

/// An owner and flags. Each lock documents the meaning of its flags.
#[repr(C)]
pub(crate) struct Word {
    /// The first field, because locks may use the first byte of the word.
    bits: AtomicU64,
    /// The place where the lock was created, for messages.
    #[cfg(debug_assertions)]
    created_at: &'static Location<'static>,
    /// The place where the owner acquired the lock, for messages.
    #[cfg(debug_assertions)]
    acquired_at: AtomicPtr<Location<'static>>,
}

impl Word {
    #[track_caller]
    pub(crate) const fn new(bits: u64) -> Self {
        Word {
            bits: AtomicU64::new(bits),
            #[cfg(debug_assertions)]
            created_at: Location::caller(),
            #[cfg(debug_assertions)]
            acquired_at: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Records where the calling thread acquired the lock, in builds with debug assertions.
    #[inline(always)]
    pub(crate) fn record_acquired(&self, _place: &'static Location<'static>) {
        // Relaxed: the location is a constant.
        #[cfg(debug_assertions)]
        self.acquired_at
            .store(ptr::from_ref(_place).cast_mut(), Ordering::Relaxed);
    }

    /// Returns where the lock was created, in builds with debug assertions.
    pub(crate) fn created_at(&self) -> Option<&'static Location<'static>> {
        #[cfg(debug_assertions)]
        return Some(self.created_at);
        #[cfg(not(debug_assertions))]
        None
    }

    /// Returns where the owner acquired the lock, if recorded. The owner may have changed since.
    pub(crate) fn acquired_at(&self) -> Option<&'static Location<'static>> {
        #[cfg(debug_assertions)]
        // SAFETY: the pointer is null or was made from a `&'static Location`, in `record_acquired`.
        return unsafe { self.acquired_at.load(Ordering::Relaxed).as_ref() };
        #[cfg(not(debug_assertions))]
        None
    }

    /// Loads the bits. Detached threads may call this too.
    #[inline]
    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        self.bits.load(ordering)
    }

    /// Returns the owner that `bits` contain.
    #[inline]
    pub(crate) fn owner(bits: u64) -> Option<ThreadId> {
        if bits & UNOWNED == 0 {
            ThreadId::from_bits(bits)
        } else {
            None
        }
    }

    /// Returns the address at which the waiters of this word park.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Changes `current` to `new`, with acquire ordering.
    #[inline]
    pub(crate) fn compare_exchange_acquire(
        &self,
        py: Python<'_>,
        current: u64,
        new: u64,
    ) -> Result<u64, u64> {
        self.compare_exchange(py, current, new, Ordering::Acquire)
    }

    /// Changes `current` to `new`, sequentially consistent.
    ///
    /// For a writer that scans the [`readers`](super::readers) next.
    #[inline]
    pub(crate) fn compare_exchange_seq_cst(
        &self,
        py: Python<'_>,
        current: u64,
        new: u64,
    ) -> Result<u64, u64> {
        self.compare_exchange(py, current, new, Ordering::SeqCst)
    }

    /// Changes `current` to `new`, with release ordering.
    #[inline]
    pub(crate) fn compare_exchange_release(
        &self,
        py: Python<'_>,
        current: u64,
        new: u64,
    ) -> Result<u64, u64> {
        self.compare_exchange(py, current, new, Ordering::Release)
    }

    /// Sets `PARKED` while the word is `blocked`. Returns whether the flag is set.
    ///
    /// The caller holds the lock of the queue that it enters, or knows that the queue is not empty.
    pub(crate) fn set_parked_if(&self, py: Python<'_>, blocked: impl Fn(u64) -> bool) -> bool {
        // Relaxed: the flag guards no data. The lock of the queue orders it before an unlocking
        // thread's check of the queue.
        let mut bits = self.load(Ordering::Relaxed);
        while blocked(bits) {
            if bits & PARKED != 0 {
                return true;
            }
            match self.compare_exchange(py, bits, bits | PARKED, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => bits = now,
            }
        }
        false
    }

    /// Applies `change` to the bits, with release ordering. Returns the old bits.
    pub(crate) fn fetch_update(&self, py: Python<'_>, mut change: impl FnMut(u64) -> u64) -> u64 {
        let mut bits = self.load(Ordering::Relaxed);
        loop {
            match self.compare_exchange_release(py, bits, change(bits)) {
                Ok(old) => return old,
                Err(now) => bits = now,
            }
        }
    }

    /// Increments the bits above the flags, as a sequence number.
    ///
    /// For words that are not locks. Detached threads write them too, so this is atomic on every
    /// build, and no other method may write such a word.
    pub(crate) fn bump_sequence(&self) {
        // Relaxed: read and written under the lock of the queue.
        self.bits.fetch_add(ThreadId::STEP, Ordering::Relaxed);
    }

    /// Stores `bits`, with release ordering, while no other thread can write.
    ///
    /// A release on GIL builds too: detached threads read once-cells, and no GIL orders the value
    /// before the word for them.
    #[inline]
    pub(crate) fn store_release(&self, _py: Python<'_>, bits: u64) {
        self.bits.store(bits, Ordering::Release);
    }

    #[inline(always)]
    fn compare_exchange(
        &self,
        _py: Python<'_>,
        current: u64,
        new: u64,
        ordering: Ordering,
    ) -> Result<u64, u64> {
        if FREE_THREADED {
            return self
                .bits
                .compare_exchange(current, new, ordering, Ordering::Relaxed);
        }
        // Plain accesses suffice: all writers own the GIL, which orders their writes, and this
        // thread does not release it in between.
        let now = self.bits.load(Ordering::Relaxed);
        if now == current {
            self.bits.store(new, Ordering::Relaxed);
            Ok(now)
        } else {
            Err(now)
        }
    }
}
