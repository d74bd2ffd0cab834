//! Where threads sleep: queues of parked threads, found by the address they wait at.
//!
//! The idea is WebKit's parking lot (Filip Pizlo, "Locking in WebKit", 2016), which `parking_lot_core` brought to
//! Rust. A lock needs one bit to say that somebody sleeps; who sleeps where stands in a table shared by all locks.
//!
//! Why a table of our own and not that crate's: its queues cannot be made whole after a `fork`. They run through
//! the thread-locals of threads that do not exist in the child, behind locks that such threads may have held, and
//! the same table serves every other user of the crate in the process, so that guarding our own use of it would
//! not even help. The queues here own what they hold, and one that a fork left behind can simply be forgotten.
//!
//! # Rules
//!
//! - A thread parks while it is detached. It enters a queue while it is attached, and may unpark others so: whoever holds the lock of a
//!   queue runs only the few lines below and the short closures given to them, never waits, attaches, detaches, allocates
//!   Python objects or panics, so taking that lock is no wait in the sense of invariant I1.
//! - The closure `validate` given to [`enter`] runs under the lock of the queue. Whoever wants to wake a thread
//!   changes the word first, or in the closure given to [`unpark_one`], and looks into the queue under the same
//!   lock. So a thread is either in the queue by then, or it sees the changed word and does not fall asleep.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

use super::ThreadId;

/// How a call to [`park`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parked {
    /// Another thread unparked this one.
    Woken,
    /// The time limit passed first. The thread is no longer in the queue.
    TimedOut,
}

/// The thread at the front of a queue, as [`unpark_one`] shows it.
pub(crate) struct Front {
    pub(crate) thread: ThreadId,
    /// Whether it has waited for so long that it should be let in before others.
    pub(crate) is_due: bool,
    /// Whether others wait behind it at the same address.
    pub(crate) others: bool,
}

/// The threads that wait at an address, as [`unpark_all_and_one`] shows them.
pub(crate) struct Crowd {
    pub(crate) size: u32,
    /// Whether one of them has waited for so long that it should be let in before others.
    pub(crate) is_due: bool,
}

/// A thread that sleeps, or is about to.
pub(super) struct Sleeper {
    /// Set, once, by the thread that takes the sleeper off its queue.
    woken: AtomicBool,
    handle: Thread,
}

impl Sleeper {
    /// For one sleep of the calling thread.
    ///
    /// # Panics
    ///
    /// If the thread is so near to its end that the standard library has forgotten it.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Sleeper {
            woken: AtomicBool::new(false),
            handle: thread::current(),
        })
    }

    /// Wakes the thread. The caller has taken it off its queue.
    fn wake(&self) {
        // Release: what the waking thread did before happens before the sleeper goes on.
        self.woken.store(true, Ordering::Release);
        self.handle.unpark();
    }

    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

struct Entry {
    address: usize,
    thread: ThreadId,
    since: Instant,
    sleeper: Arc<Sleeper>,
}

/// How long a sleeper may wait before it is let in before others, and how often at most that happens in one queue.
///
/// The first is what CPython's own mutexes do (`TIME_TO_BE_FAIR_NS` in `Python/lock.c`). The second is for many threads on
/// few processors, where all sleepers have waited for so long: to let each in, in turn, would make every lock wait
/// for a thread to wake up. `parking_lot` has it on its own, twice as often on average.
const TIME_TO_BE_FAIR: Duration = Duration::from_millis(1);

/// The sleepers of all the addresses that fall to one shard, those that began to wait first in front.
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// When a sleeper was let in before others for the last time.
    last_fair: Option<Instant>,
}

impl Queue {
    const fn new() -> Self {
        Queue {
            entries: VecDeque::new(),
            last_fair: None,
        }
    }

    /// Forgets all sleepers, in the child of a fork, where they do not exist.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    fn insert(&mut self, entry: Entry) {
        // A thread that was woken in vain comes back with the time of its first sleep, and to its old place.
        let behind = |other: &Entry| other.since <= entry.since;
        let last = self.entries.iter().rposition(behind);
        self.entries.insert(last.map_or(0, |last| last + 1), entry);
    }

    fn take_first(&mut self, address: usize) -> Option<Entry> {
        let is_first = |entry: &Entry| entry.address == address;
        let place = self.entries.iter().position(is_first)?;
        self.entries.remove(place)
    }

    fn take_all(&mut self, address: usize) -> Vec<Arc<Sleeper>> {
        let mut taken = Vec::new();
        self.entries.retain(|entry| {
            let stays = entry.address != address;
            if !stays {
                taken.push(Arc::clone(&entry.sleeper));
            }
            stays
        });
        taken
    }

    fn contains(&self, address: usize) -> bool {
        self.entries.iter().any(|entry| entry.address == address)
    }

    /// Whether a thread that has waited since then, the first of its address, is to be let in before others now.
    fn is_due(&mut self, since: Instant) -> bool {
        let now = Instant::now();
        let is_long_ago = |time| now.saturating_duration_since(time) >= TIME_TO_BE_FAIR;
        let is_due = is_long_ago(since) && self.last_fair.is_none_or(is_long_ago);
        if is_due {
            self.last_fair = Some(now);
        }
        is_due
    }

    /// Takes `sleeper` off the queue, if nobody else has yet.
    fn withdraw(&mut self, sleeper: &Arc<Sleeper>) -> bool {
        let is_it = |entry: &Entry| Arc::ptr_eq(&entry.sleeper, sleeper);
        let place = self.entries.iter().position(is_it);
        place.and_then(|place| self.entries.remove(place)).is_some()
    }
}

/// A power of two. Sleeping threads are few; the shards only keep unrelated locks from meeting.
const SHARDS: usize = 64;

static TABLE: [CachePadded<Mutex<Queue>>; SHARDS] =
    [const { CachePadded::new(Mutex::new(Queue::new())) }; SHARDS];

/// Addresses that differ in their last three bits only have the same queue: a word can have as many kinds of sleepers.
fn lock_queue(address: usize) -> MutexGuard<'static, Queue> {
    let address = address >> 3;
    // Fibonacci hashing (Knuth, The Art of Computer Programming 6.4): the high bits of the product depend on all
    // bits of the address.
    let hash = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let shard = (hash >> (u64::BITS - SHARDS.trailing_zeros())) as usize;
    lock_shard(&TABLE[shard])
}

fn lock_shard(shard: &'static Mutex<Queue>) -> MutexGuard<'static, Queue> {
    // Nothing panics under the lock, and if something did the queue would still be a queue.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks all queues, to fork with none of them half-changed. Nobody else ever holds two.
pub(super) fn lock_all_queues() -> Vec<MutexGuard<'static, Queue>> {
    TABLE.iter().map(|shard| lock_shard(shard)).collect()
}

/// Enters the calling thread in the queue of `address`, unless `validate` says that there is nothing to wait for. Gives whether it did; then
/// the thread has to [`park`].
///
/// `sleeper` is this thread's own, for this sleep. `since` is the time at which this thread began to wait, which decides about its place
/// in the queue.
#[must_use]
pub(super) fn enter(
    sleeper: &Arc<Sleeper>,
    address: usize,
    thread: ThreadId,
    since: Instant,
    validate: impl FnOnce() -> bool,
) -> bool {
    let mut queue = lock_queue(address);
    let enters = validate();
    if enters {
        queue.insert(Entry {
            address,
            thread,
            since,
            sleeper: Arc::clone(sleeper),
        });
    }
    enters
}

/// Puts the calling thread, which is detached and has [entered](enter) the queue of `address`, to sleep until it is unparked or
/// the `deadline` has passed.
pub(super) fn park(sleeper: &Arc<Sleeper>, address: usize, deadline: Option<Instant>) -> Parked {
    // `thread::park` may return for no reason, or for somebody else's; only the flag counts.
    while !sleeper.is_woken() {
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => {
                if lock_queue(address).withdraw(sleeper) {
                    return Parked::TimedOut;
                }
                // Another thread has just taken this one off the queue: that counts, or the wake-up would be lost.
                break;
            }
            Some(left) => thread::park_timeout(left),
        }
    }
    Parked::Woken
}

/// Wakes the thread that has waited longest at `address`.
///
/// `release` runs first, under the lock of the queue, and is told who will be woken: it is where a word is changed
/// that must agree with the queue.
pub(crate) fn unpark_one(address: usize, release: impl FnOnce(Option<Front>)) {
    let mut queue = lock_queue(address);
    let first = queue.take_first(address);
    let front = first.as_ref().map(|entry| Front {
        thread: entry.thread,
        is_due: queue.is_due(entry.since),
        others: queue.contains(address),
    });
    release(front);
    drop(queue);
    if let Some(entry) = first {
        entry.sleeper.wake();
    }
}

/// Wakes all threads that wait at `address`. `release` runs first, as in [`unpark_one`].
pub(crate) fn unpark_all(address: usize, release: impl FnOnce()) {
    let mut queue = lock_queue(address);
    let taken = queue.take_all(address);
    release();
    drop(queue);
    for sleeper in taken {
        sleeper.wake();
    }
}

/// Wakes all threads that wait at `all`, and the one that has waited longest at `one`, an address with the same queue.
///
/// `release` runs first, as in [`unpark_one`], and is told who will be woken.
pub(crate) fn unpark_all_and_one(
    all: usize,
    one: usize,
    release: impl FnOnce(Crowd, Option<Front>),
) {
    debug_assert_eq!(all >> 3, one >> 3, "the two have one queue");
    let mut queue = lock_queue(one);
    let eldest = queue.entries.iter().position(|entry| entry.address == all);
    // The one that has waited longest stands before the others.
    let eldest = eldest.map(|place| queue.entries[place].since);
    let is_due = eldest.is_some_and(|since| queue.is_due(since));
    let everybody = queue.take_all(all);
    let crowd = Crowd {
        size: u32::try_from(everybody.len()).expect("fewer than 2^32 threads"),
        is_due,
    };
    let first = queue.take_first(one);
    let front = first.as_ref().map(|entry| Front {
        thread: entry.thread,
        is_due: !is_due && queue.is_due(entry.since),
        others: queue.contains(one),
    });
    release(crowd, front);
    drop(queue);
    for sleeper in everybody {
        sleeper.wake();
    }
    if let Some(entry) = first {
        entry.sleeper.wake();
    }
}
