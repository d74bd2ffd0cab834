//! Parking: queues of waiting threads, found by the address that they wait at.
//!
//! The idea is WebKit's parking lot (Filip Pizlo, "Locking in WebKit", 2016), which
//! `parking_lot_core` brought to Rust. A lock needs one bit that says that threads are parked; the
//! queues are in a table that all locks share.
//!
//! `parking_lot_core` itself cannot be repaired after a `fork`. Its queues run through the
//! thread-locals of threads that do not exist in the child, behind locks that such threads may
//! hold. An extension module links its own copy of that crate, but all crates of the extension
//! share the table of that copy, so guarding our own calls would not protect it. The queues here
//! own their entries, so a forked child can discard them.
//!
//! # Rules
//!
//! - A thread parks detached. It enters a queue attached, and may unpark other threads attached.
//!   The holder of the lock of a queue or of a [`Parker`] runs only the few lines below and the
//!   short closures passed to them. It never waits, attaches, detaches, allocates Python objects or
//!   panics, so acquiring such a lock is not a wait in the sense of invariant I1.
//! - The closure `validate` of [`enqueue`] runs under the lock of the queue. A thread that unparks
//!   another changes the word first, or in the closure passed to the unparking function, and looks
//!   into the queue under the same lock. So a waiter is either in the queue by then, or sees the
//!   changed word and does not park.
//! - A thread parks on a [`Parker`] and not with `std::thread::park`, whose token belongs to the
//!   user (invariant I13).

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_utils::CachePadded;

use super::ThreadId;

/// The outcome of [`park`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ParkResult {
    /// Another thread unparked this one.
    Unparked,
    /// The deadline passed first. The thread is no longer in the queue.
    TimedOut,
}

/// The thread at the front of a queue, as [`unpark_one_fairly`] shows it.
pub(crate) struct FirstWaiter {
    pub(crate) thread: ThreadId,
    /// Set if the lock is to be reserved for it.
    pub(crate) is_due: bool,
    /// Set if more threads wait behind it at the same address.
    pub(crate) others: bool,
}

/// The threads that wait at an address, as [`unpark_all_and_one`] shows them.
pub(crate) struct WaiterGroup {
    pub(crate) size: u32,
    /// Set if the lock is to be reserved for them.
    pub(crate) is_due: bool,
}

/// A place to park, for one thread and one time.
pub(super) struct Parker {
    /// Set, once, by the thread that takes the parker off its queue.
    is_unparked: Mutex<bool>,
    condvar: Condvar,
}

impl Parker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Parker {
            is_unparked: Mutex::new(false),
            condvar: Condvar::new(),
        })
    }

    /// Unparks the thread. The caller has taken the parker off its queue.
    fn unpark(&self) {
        // Unlocked before the notification, for the thread locks it when it wakes up.
        *lock(&self.is_unparked) = true;
        self.condvar.notify_one();
    }

    /// Blocks until the thread is unparked or the deadline has passed. Returns whether it was
    /// unparked.
    fn park(&self, deadline: Option<Instant>) -> bool {
        let is_parked = |is_unparked: &mut bool| !*is_unparked;
        let guard = lock(&self.is_unparked);
        let Some(deadline) = deadline else {
            drop(self.condvar.wait_while(guard, is_parked));
            return true;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let result = self.condvar.wait_timeout_while(guard, left, is_parked);
        let (is_unparked, _) = result.unwrap_or_else(PoisonError::into_inner);
        *is_unparked
    }
}

struct QueueEntry {
    address: usize,
    thread: ThreadId,
    since: Instant,
    parker: Arc<Parker>,
}

/// The time that a thread waits before a lock is reserved for it, and the least time between two
/// reservations of one lock.
///
/// CPython's mutexes have the former (`TIME_TO_BE_FAIR_NS` in `Python/lock.c`). The latter is for
/// many threads on few processors, where all threads have waited for so long: a lock that was
/// reserved for each in turn would always wait for a thread to wake up. `parking_lot` has only the
/// latter, twice as often on average.
const TIME_TO_BE_FAIR: Duration = Duration::from_millis(1);

/// The threads that wait at the addresses of one shard, ordered by when they began to wait.
pub(super) struct Queue {
    entries: VecDeque<QueueEntry>,
    /// The [locks](lock_at) that were unlocked fairly within the last [`TIME_TO_BE_FAIR`], each
    /// with the time. A lock that is created at the address of another inherits at most that much.
    fair_unlocks: Vec<(usize, Instant)>,
}

impl Queue {
    const fn new() -> Self {
        Queue {
            entries: VecDeque::new(),
            fair_unlocks: Vec::new(),
        }
    }

    /// Discards all entries, in a forked child, where their threads do not exist.
    pub(super) fn clear(&mut self) {
        *self = Queue::new();
    }

    fn insert(&mut self, entry: QueueEntry) {
        // A thread that was unparked and parks again keeps its start time, and so its place.
        let behind = |other: &QueueEntry| other.since <= entry.since;
        let last = self.entries.iter().rposition(behind);
        self.entries.insert(last.map_or(0, |last| last + 1), entry);
    }

    fn take_first(&mut self, address: usize) -> Option<QueueEntry> {
        let is_first = |entry: &QueueEntry| entry.address == address;
        let place = self.entries.iter().position(is_first)?;
        self.entries.remove(place)
    }

    fn take_all(&mut self, address: usize) -> Vec<Arc<Parker>> {
        let mut taken = Vec::new();
        self.entries.retain(|entry| {
            let stays = entry.address != address;
            if !stays {
                taken.push(Arc::clone(&entry.parker));
            }
            stays
        });
        taken
    }

    fn contains(&self, address: usize) -> bool {
        self.entries.iter().any(|entry| entry.address == address)
    }

    /// Returns whether the lock at `address`, whose first waiter began to wait at `since`, is to be
    /// unlocked fairly: reserved for that waiter. If so, notes that it was.
    fn unlocks_fairly(&mut self, address: usize, since: Instant) -> bool {
        let now = Instant::now();
        let is_recent = |time| now.saturating_duration_since(time) < TIME_TO_BE_FAIR;
        if is_recent(since) {
            return false;
        }
        self.fair_unlocks.retain(|(_, time)| is_recent(*time));
        let this = lock_at(address);
        let is_due = self.fair_unlocks.iter().all(|(lock, _)| *lock != this);
        if is_due {
            self.fair_unlocks.push((this, now));
        }
        is_due
    }

    /// Takes `parker` off the queue. Returns `false` if another thread has already.
    fn remove(&mut self, parker: &Arc<Parker>) -> bool {
        let is_it = |entry: &QueueEntry| Arc::ptr_eq(&entry.parker, parker);
        let place = self.entries.iter().position(is_it);
        place.and_then(|place| self.entries.remove(place)).is_some()
    }
}

/// A power of two. Few threads are parked at a time; shards only keep unrelated locks from
/// contending for one queue.
const SHARDS: usize = 64;

static TABLE: [CachePadded<Mutex<Queue>>; SHARDS] =
    [const { CachePadded::new(Mutex::new(Queue::new())) }; SHARDS];

/// Returns the lock that `address` belongs to. A lock has an address for each kind of waiter; they
/// differ in the last three bits only.
fn lock_at(address: usize) -> usize {
    address >> 3
}

fn lock_queue(address: usize) -> MutexGuard<'static, Queue> {
    // Fibonacci hashing (Knuth, The Art of Computer Programming 6.4): the high bits of the product
    // depend on all bits of the address.
    let hash = (lock_at(address) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let shard = (hash >> (u64::BITS - SHARDS.trailing_zeros())) as usize;
    lock(&TABLE[shard])
}

/// Ignores poisoning: no code panics under these locks, and if it did the data would be valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks all queues, so that a fork finds none of them half-changed. No other code holds two.
pub(super) fn lock_all_queues() -> Vec<MutexGuard<'static, Queue>> {
    TABLE.iter().map(|shard| lock(shard)).collect()
}

/// Enters the calling thread in the queue of `address`, unless `validate` returns `false`. Returns
/// whether it did; then the thread has to [`park`].
///
/// `parker` is used for this wait only. `since` is when the thread began to wait, which decides
/// about its place in the queue.
#[must_use]
pub(super) fn enqueue(
    parker: &Arc<Parker>,
    address: usize,
    thread: ThreadId,
    since: Instant,
    validate: impl FnOnce() -> bool,
) -> bool {
    let mut queue = lock_queue(address);
    let enters = validate();
    if enters {
        queue.insert(QueueEntry {
            address,
            thread,
            since,
            parker: Arc::clone(parker),
        });
    }
    enters
}

/// Parks the calling thread, which is detached and has [entered](enqueue) the queue of `address`,
/// until it is unparked or the `deadline` has passed.
pub(super) fn park(parker: &Arc<Parker>, address: usize, deadline: Option<Instant>) -> ParkResult {
    if parker.park(deadline) {
        return ParkResult::Unparked;
    }
    if lock_queue(address).remove(parker) {
        return ParkResult::TimedOut;
    }
    // Another thread has just taken this one off the queue. That counts, or the wake-up is lost.
    ParkResult::Unparked
}

/// Unparks the thread that has waited longest at `address`.
///
/// `release` runs first, under the lock of the queue. It changes a word that must agree with the
/// queue.
pub(crate) fn unpark_one(address: usize, release: impl FnOnce()) {
    let mut queue = lock_queue(address);
    let first = queue.take_first(address);
    release();
    drop(queue);
    if let Some(entry) = first {
        entry.parker.unpark();
    }
}

/// [`unpark_one`] for a lock that can be reserved: `release` is passed the thread that is unparked.
pub(crate) fn unpark_one_fairly(address: usize, release: impl FnOnce(Option<FirstWaiter>)) {
    let mut queue = lock_queue(address);
    let first = queue.take_first(address);
    let front = first.as_ref().map(|entry| FirstWaiter {
        thread: entry.thread,
        is_due: queue.unlocks_fairly(address, entry.since),
        others: queue.contains(address),
    });
    release(front);
    drop(queue);
    if let Some(entry) = first {
        entry.parker.unpark();
    }
}

/// Unparks all threads that wait at `address`. `release` runs first, as in [`unpark_one`].
pub(crate) fn unpark_all(address: usize, release: impl FnOnce()) {
    let mut queue = lock_queue(address);
    let taken = queue.take_all(address);
    release();
    drop(queue);
    for parker in taken {
        parker.unpark();
    }
}

/// Unparks all threads that wait at `all`, and the first thread that waits at `one`, an address of
/// the same lock.
///
/// `release` runs first, as in [`unpark_one_fairly`].
pub(crate) fn unpark_all_and_one(
    all: usize,
    one: usize,
    release: impl FnOnce(WaiterGroup, Option<FirstWaiter>),
) {
    debug_assert_eq!(lock_at(all), lock_at(one), "the two have one queue");
    let mut queue = lock_queue(one);
    // The thread that has waited longest is in front of the others.
    let eldest = queue.entries.iter().find(|entry| entry.address == all);
    let since = eldest.map(|entry| entry.since);
    let is_due = since.is_some_and(|since| queue.unlocks_fairly(all, since));
    let everybody = queue.take_all(all);
    let group = WaiterGroup {
        size: u32::try_from(everybody.len()).expect("fewer than 2^32 threads"),
        is_due,
    };
    let first = queue.take_first(one);
    let front = first.as_ref().map(|entry| FirstWaiter {
        thread: entry.thread,
        is_due: !is_due && queue.unlocks_fairly(one, entry.since),
        others: queue.contains(one),
    });
    release(group, front);
    drop(queue);
    for parker in everybody {
        parker.unpark();
    }
    if let Some(entry) = first {
        entry.parker.unpark();
    }
}
