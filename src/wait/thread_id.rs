//! Who owns a lock: a serial number for each thread that ever touched one, never used twice.
//!
//! The address of a thread-local would do as well until a thread ends and another one gets its address: a lock
//! that the first never released would then seem to be held by the second, and an innocent wait would be
//! reported as re-entry. A serial number also tells, after a fork, which threads can no longer exist.

use std::{
    cell::Cell,
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{fork, threads};

/// How far an id is shifted to make room for the flags of a [`Word`](super::Word).
const FLAG_BITS: u32 = 12;

/// The bits of a word that hold an id: not its flags, and not its first byte in memory.
const MASK: u64 = (u64::MAX << FLAG_BITS) & !u64::from_ne_bytes([u8::MAX, 0, 0, 0, 0, 0, 0, 0]);

/// A thread, in the form in which it stands in a [`Word`](super::Word): the serial number above, zeros where the
/// flags go.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadId(NonZeroU64);

thread_local! {
    /// The id of this thread, or 0 before it has one. Without a destructor, so that it can be read until the very
    /// end of the thread.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// The bits of the next thread's id.
///
/// 2^52 ids last for 140 years if a thread starts every microsecond. Big-endian systems, where the
/// first byte of a word is the most significant one, have 2^44.
static NEXT: AtomicU64 = AtomicU64::new(ThreadId::STEP);

/// Ids below this one belong to threads that a fork left behind, except for [`SURVIVOR`].
static FIRST_AFTER_FORK: AtomicU64 = AtomicU64::new(0);

/// The bits of the thread that called `fork`, in the child; 0 if it had no id.
static SURVIVOR: AtomicU64 = AtomicU64::new(0);

impl ThreadId {
    /// The difference between the bits of one id and the next.
    pub(super) const STEP: u64 = 1 << FLAG_BITS;

    /// The id of the calling thread.
    #[inline]
    pub(crate) fn current() -> ThreadId {
        match NonZeroU64::new(CURRENT.get()) {
            Some(bits) => ThreadId(bits),
            None => Self::assign(),
        }
    }

    #[cold]
    fn assign() -> ThreadId {
        fork::install_handlers();
        // Relaxed: all that counts is that no two threads get the same number.
        let bits = NEXT.fetch_add(Self::STEP, Ordering::Relaxed);
        let id = Self::from_bits(bits).filter(|id| id.bits() == bits);
        let id = id.expect("fewer threads than ids");
        CURRENT.set(bits);
        threads::register(id);
        id
    }

    /// The id as it stands in a word.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }

    /// The thread whose id stands in `bits`, whatever the flags beside it.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<ThreadId> {
        NonZeroU64::new(bits & MASK).map(ThreadId)
    }

    /// Whether the thread does not exist in this process, because it was another one than the thread that forked.
    pub(crate) fn is_gone(self) -> bool {
        // Relaxed: both were written before this process had a second thread.
        self.bits() < FIRST_AFTER_FORK.load(Ordering::Relaxed)
            && self.bits() != SURVIVOR.load(Ordering::Relaxed)
    }

    /// Called in the child of a fork, by its only thread: all others are gone.
    pub(super) fn forget_all_but_current() {
        FIRST_AFTER_FORK.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
        SURVIVOR.store(CURRENT.get(), Ordering::Relaxed);
    }
}
