//! The word of a lock: who owns it, and a few flags, in eight bytes.
//!
//! Every primitive of the crate lays its word out in the same way, so that one walk can follow the owners of all
//! of them:
//!
//! | bits | meaning |
//! |---|---|
//! | 12 and up | the [`ThreadId`] of the owner, or 0 |
//! | 11 | the primitive's own ([`SECOND_FLAG`]) |
//! | 10 | the primitive's own ([`FLAG`]) |
//! | 9 | [`UNOWNED`]: the id, if there is one, is not an owner's |
//! | 8 | [`PARKED`]: threads may be asleep in the queue of this word |
//! | those of the first byte in memory | 0, unless the primitive uses it |
//!
//! # Who may write
//!
//! Only attached threads write a word: each method that does takes a token. On a build with a GIL this makes
//! read-modify-write operations unnecessary, because no other attached thread can come between a load and a store
//! of this one as long as it does not detach. Here, and nowhere else, the two kinds of build differ in how a word
//! is changed.
//!
//! That rests on three things which this crate cannot check:
//!
//! 1. A token is honest. PyO3's `Ungil` is `Send` on stable Rust, and a wrapper that makes anything `Send`
//!    can carry a token or a guard into a closure that runs detached.
//! 2. One interpreter uses the word. Two legacy sub-interpreters share the statics of an extension but stop their
//!    worlds separately, and two with a GIL each would store at once; see
//!    [`ensure_single_interpreter`](crate::ensure_single_interpreter).
//! 3. Detached threads do nothing to a word: the flag `PARKED` is set before a thread detaches, as it enters the queue, and cleared by the
//!    attached thread that unlocks.

#[cfg(debug_assertions)]
use std::sync::atomic::AtomicPtr;
use std::{
    panic::Location,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use pyo3::Python;

use super::ThreadId;
use crate::build_config::FREE_THREADED;

/// Threads may be asleep in the queue of this word. Whoever finds it set when giving the word up must look there.
/// It may outlive the last sleeper (one whose time was up leaves it set). Where it is not set nobody sleeps, or, if the primitive says
/// so, somebody was woken who answers for the others.
pub(crate) const PARKED: u64 = 1 << 8;
/// The word has no owner, whatever id it shows.
pub(crate) const UNOWNED: u64 = 1 << 9;
/// A flag whose meaning each primitive defines.
pub(crate) const FLAG: u64 = 1 << 10;
/// A second such flag.
pub(crate) const SECOND_FLAG: u64 = 1 << 11;

/// The owner of a word that has it only to keep others out while it waits for something else: what the word guards, it has
/// not touched.
///
/// So the word of an owner which will never run again, and which is this, can be given to others.
pub(crate) struct Pending(AtomicU64);

impl Pending {
    pub(crate) const fn nobody() -> Self {
        Pending(AtomicU64::new(0))
    }

    /// Says that the calling thread, the owner of the word, begins to wait.
    pub(crate) fn begin(&self, _py: Python<'_>) {
        self.0.store(ThreadId::current().bits(), Ordering::Relaxed);
    }

    /// Says that it has ended. Before it touches what the word guards, and before it gives the word up.
    pub(crate) fn end(&self, _py: Python<'_>) {
        // Sequentially consistent, and so before all that this thread does afterwards, also in the eyes of a process that is forked off
        // by another thread in between.
        self.0.store(0, Ordering::SeqCst);
    }

    /// Whether `owner`, the owner of the word, is this.
    pub(crate) fn is(&self, owner: ThreadId) -> bool {
        // Relaxed: what is asked is whether a thread that will never run again had come farther.
        self.0.load(Ordering::Relaxed) == owner.bits()
    }
}

/// The word itself. What its flags mean is told in the table of each primitive that has one.
#[repr(C)]
pub(crate) struct Word {
    /// Comes first, so that the first byte of the word is that of the bits.
    bits: AtomicU64,
    /// Where the owner took the lock, for messages. It makes the word twice as large, in builds for debugging only.
    #[cfg(debug_assertions)]
    taken_at: AtomicPtr<Location<'static>>,
}

impl Word {
    pub(crate) const fn new(bits: u64) -> Self {
        Word {
            bits: AtomicU64::new(bits),
            #[cfg(debug_assertions)]
            taken_at: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Remembers where the calling thread became the owner, in builds with debug assertions.
    #[inline(always)]
    pub(crate) fn note_taken(&self, _place: &'static Location<'static>) {
        // Relaxed: the place is a constant of the program, and for a message only.
        #[cfg(debug_assertions)]
        self.taken_at
            .store(ptr::from_ref(_place).cast_mut(), Ordering::Relaxed);
    }

    /// Where the owner took the lock, if that is known. The owner may be another one by now.
    pub(crate) fn taken_at(&self) -> Option<&'static Location<'static>> {
        #[cfg(debug_assertions)]
        // SAFETY: null, or a `&'static Location` that `note_taken` was given.
        return unsafe { self.taken_at.load(Ordering::Relaxed).as_ref() };
        #[cfg(not(debug_assertions))]
        None
    }

    /// Reads the word; any thread may.
    #[inline]
    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        self.bits.load(ordering)
    }

    /// The thread that owns the word at this moment.
    #[inline]
    pub(crate) fn owner(bits: u64) -> Option<ThreadId> {
        if bits & UNOWNED == 0 {
            ThreadId::from_bits(bits)
        } else {
            None
        }
    }

    /// The address that the sleepers of this word wait at.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Changes `current` to `new` and takes over, with it, all that the last owner wrote.
    #[inline]
    pub(crate) fn acquire(&self, py: Python<'_>, current: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange(py, current, new, Ordering::Acquire)
    }

    /// [`acquire`](Self::acquire), and in one order with whatever else is sequentially consistent: for an owner that then looks who
    /// is reading ([`readers`](super::readers)).
    #[inline]
    pub(crate) fn claim(&self, py: Python<'_>, current: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange(py, current, new, Ordering::SeqCst)
    }

    /// Changes `current` to `new` and passes on, with it, all that this thread wrote.
    #[inline]
    pub(crate) fn release(&self, py: Python<'_>, current: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange(py, current, new, Ordering::Release)
    }

    /// Sets `PARKED`, unless the word is not `blocked`. Gives whether it is set. For a thread that holds the lock of the queue that it
    /// enters, or knows that others are in it.
    pub(crate) fn mark(&self, py: Python<'_>, blocked: impl Fn(u64) -> bool) -> bool {
        // Relaxed, all of it: a flag guards no data, and the queue's lock orders it against those who look there for sleepers.
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

    /// Changes the word to whatever `change` makes of it, passing on what this thread wrote. Gives the old bits.
    pub(crate) fn update(&self, py: Python<'_>, mut change: impl FnMut(u64) -> u64) -> u64 {
        let mut bits = self.load(Ordering::Relaxed);
        loop {
            match self.release(py, bits, change(bits)) {
                Ok(old) => return old,
                Err(now) => bits = now,
            }
        }
    }

    /// Makes the bits others than they were, the flags excepted: for a word that is no lock's, and which detached threads write too.
    /// So it is one operation on every build, and no other method may write such a word.
    pub(crate) fn advance(&self) {
        // Relaxed: it is read under the lock of the queue, as it is written.
        self.bits.fetch_add(ThreadId::STEP, Ordering::Relaxed);
    }

    /// Stores `bits`, passing on what this thread wrote, where no other thread can be writing.
    ///
    /// A release on every build, with or without a GIL: a once-cell is read by threads that are detached, and
    /// for them no GIL orders the value before the word.
    #[inline]
    pub(crate) fn publish(&self, _py: Python<'_>, bits: u64) {
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
        // Plain accesses suffice: all writers own the GIL, which orders them and what they wrote, and this thread
        // does not give it up between the two lines.
        let now = self.bits.load(Ordering::Relaxed);
        if now == current {
            self.bits.store(new, Ordering::Relaxed);
            Ok(now)
        } else {
            Err(now)
        }
    }
}
