//! Thread ids: a serial number for each thread that uses a lock, never reused.
//!
//! The address of a thread-local would be reused after its thread ends. A lock that the ended
//! thread never released would then seem to belong to the new thread, whose wait would be reported
//! as re-entry. A serial number also shows which threads were lost to a fork.

use std::{
    cell::Cell,
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{fork, threads};

/// Number of bits below an id, for the flags of a [`Word`](super::Word).
const FLAG_BITS: u32 = 12;

/// The bits of a word that contain an id: neither the flags nor the first byte in memory.
const MASK: u64 = (u64::MAX << FLAG_BITS) & !u64::from_ne_bytes([u8::MAX, 0, 0, 0, 0, 0, 0, 0]);

/// Identifies a thread: its serial number, shifted by [`FLAG_BITS`] as in a [`Word`](super::Word).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadId(NonZeroU64);

thread_local! {
    /// The id of this thread, or 0. Has no destructor, and so is readable until the thread ends.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// The bits of the next thread's id.
///
/// 2^52 ids last for 140 years if a thread starts every microsecond. Big-endian systems, where the
/// first byte of a word is the most significant one, have 2^44.
static NEXT: AtomicU64 = AtomicU64::new(ThreadId::STEP);

/// The first id assigned after the fork. Lower ids are lost to it, except [`FORKING_THREAD`].
static FIRST_ID_AFTER_FORK: AtomicU64 = AtomicU64::new(0);

/// The bits of the thread that called `fork`, in the child; 0 if it had no id.
static FORKING_THREAD: AtomicU64 = AtomicU64::new(0);

impl ThreadId {
    /// The difference between the bits of consecutive ids.
    pub(super) const STEP: u64 = 1 << FLAG_BITS;

    /// Returns the id of the calling thread.
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
        // Relaxed: only uniqueness matters.
        let bits = NEXT.fetch_add(Self::STEP, Ordering::Relaxed);
        let id = Self::from_bits(bits).filter(|id| id.bits() == bits);
        let id = id.expect("fewer threads than ids");
        CURRENT.set(bits);
        threads::register(id);
        id
    }

    /// Returns the bits of the id in a word.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }

    /// Returns the id in the bits of a word, ignoring flags.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<ThreadId> {
        NonZeroU64::new(bits & MASK).map(ThreadId)
    }

    /// Returns whether the thread was lost to a fork: it ran in the parent, and did not fork.
    pub(crate) fn is_gone(self) -> bool {
        // Relaxed: the child stored both before it had a second thread.
        self.bits() < FIRST_ID_AFTER_FORK.load(Ordering::Relaxed)
            && self.bits() != FORKING_THREAD.load(Ordering::Relaxed)
    }

    /// Marks all other threads as lost. Called by the only thread of a forked child.
    pub(super) fn forget_all_but_current() {
        FIRST_ID_AFTER_FORK.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
        FORKING_THREAD.store(CURRENT.get(), Ordering::Relaxed);
    }
}
