//! Waiting for the locks of this crate.
//!
//! # Invariants
//!
//! Comments of the crate cite these by number.
//!
//! | | invariant |
//! |---|---|
//! | I1 | No thread blocks while attached. It may spin while another one changes a state. |
//! | I2 | No thread detaches unless it has to wait. |
//! | I3 | Only attached threads acquire and release locks. An unparked waiter attaches first. |
//! | I4 | A wait that completes a cycle, or whose holder can never run again, is reported. |
//! | I5 | `&mut T` lives across a suspension only under a lock or a dynamic borrow flag. |
//! | I6 | Traversal never blocks or attaches, and reads one state in each stop of the world. |
//! | I7 | A forked child never hangs on a lock, cell or queue of a thread lost to the fork. |
//! | I8 | Fast paths are inlined. GIL builds use plain loads and stores. |
//! | I9 | No panic or early return leaves a waiter parked for good, or data half-written. |
//! | I10 | Everything works on every supported build. |
//! | I11 | A failed attempt leaves no trace: it blocks no thread and wakes no thread. |
//! | I12 | The cost of an operation depends only on the threads and locks that exist now. |
//! | I13 | Waiting leaves the unpark token, signal mask and pending exception unchanged. |
//!
//! # Protocol
//!
//! The [`Word`] of a lock stores its owner. A thread that waits for a lock does the following:
//!
//! 1. **Try** to acquire the lock, attached. On a free-threaded build, spin detached and try again.
//!    With a GIL, park at once: the owner has to attach before it can unlock.
//! 2. Without a timeout, **check** that the wait can end, and **insert** an edge into the wait-for
//!    [`graph`]. If the wait can never end, return a [`Deadlock`] instead.
//! 3. **Enqueue** at an address in the word, under the lock of the queue, unless the word shows
//!    that the lock was released. Set [`PARKED`] if the unlocking thread relies on it.
//! 4. **Detach**.
//! 5. **Park**.
//! 6. **Remove** the edge.
//! 7. **Attach**, and continue at step 1.
//!
//! A waiter attaches before it acquires (I3). If it owned the lock while waiting to attach, it
//! could deadlock with an attached thread that waits for the lock. So ownership is never handed
//! over. The lock is at most *reserved* for a waiter, until the reservation expires.
//!
//! `PARKED` is set under the lock of the queue, together with the enqueue. So an unlocking thread
//! that sees the flag finds the waiter in the queue.
//!
//! The edge is removed before attaching, because attaching can block, and resumes critical
//! sections. A thread without an edge counts as running, which it is once it has been unparked.
//!
//! # Obligations of a lock
//!
//! - It changes its word only while attached, except with [`Word::bump_sequence`].
//! - It unparks waiters after it has released the word.
//! - An unparked waiter checks the word again before it returns an error, because no other waiter
//!   may have been unparked.
//! - If the unlocking thread clears `PARKED` while other waiters are parked, as the mutex does, the
//!   unparked waiter must set the flag again or unpark the next waiter. It does so before it runs
//!   foreign code.
//!
//! # Polling
//!
//! A parked thread does not poll, with four exceptions:
//!
//! - A waiter behind a reservation tries again after [`RESERVATION_TIMEOUT`].
//! - A writer that waits for [`readers`] to drain scans them once more after a millisecond.
//! - In an interruptible wait, the thread that handles signals polls for them.
//! - A thread that has waited for 300 ms without a timeout checks once whether it is importing. If
//!   so, it polls for cycles through [import locks](import_lock).

pub(crate) mod fork;
mod graph;
pub(crate) mod ident;
mod import_lock;
mod options;
mod park;
pub(crate) mod process_fence;
pub(crate) mod readers;
mod thread_id;
mod threads;
mod word;

use std::{
    any::Any,
    hint,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use pyo3::{PyErr, Python};

pub use self::options::Wait;
pub(crate) use self::{
    graph::{Cause, Deadlock, Holders, LockKind, Resource, Role, ThreadRef, WaitEdge},
    park::{
        FirstWaiter, WaiterGroup, unpark_all, unpark_all_and_one, unpark_one, unpark_one_fairly,
    },
    thread_id::ThreadId,
    threads::{thread_info, with_ident},
    word::{DrainingOwner, FLAG, PARKED, SECOND_FLAG, UNOWNED, Word},
};
use self::{
    graph::{EdgeGuard, WaitTarget},
    park::{ParkResult, Parker},
};
use crate::python::{self, FREE_THREADED, exception_aside, is_finalizing};

/// Time after which the reservation of a lock for an unparked waiter expires.
///
/// Long enough to wake up and attach on a busy machine. Attaching to a contended GIL takes longer:
/// CPython lets each thread keep the GIL for 5 ms by default.
pub(crate) const RESERVATION_TIMEOUT: Duration = Duration::from_millis(10);

/// Maximum number of spins for one set of holders, even if the thread parks in between. CPython's
/// `MAX_SPIN_COUNT` is 40.
///
/// Bounded, because a lock cannot be reserved for a thread that is in no queue. Not
/// smaller, because unparking a thread costs the owner a system call.
const MAX_SPINS: u32 = 60;

/// Number of spin-loop hints between two attempts. With fewer, the spinning thread takes the cache
/// line of the word from the owner too often.
const SPIN_LOOP_HINTS: u32 = 50;

/// Maximum time to spin. A parked thread waits as long before a lock is reserved for it.
const MAX_SPIN_TIME: Duration = Duration::from_millis(1);

/// Interval of polling for signals, in an interruptible wait of the thread that handles them.
const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Time until a waiter polls for cycles through import locks, and the interval of polling. A cycle
/// found twice in a row is reported.
const IMPORT_POLL_INTERVAL: Duration = Duration::from_millis(300);

/// The reason why a wait failed.
pub(crate) enum Failure {
    Deadlock(Deadlock),
    /// A Python signal handler raised an exception. Only for interruptible waits.
    Interrupted(PyErr),
    /// Rust code called by a Python signal handler panicked. The panic is resumed after the caller
    /// has cleaned up. Only for interruptible waits.
    Panicked(Box<dyn Any + Send>),
    /// Only for waits with a timeout or deadline.
    TimedOut,
}

/// The state of one attempt to acquire a lock, which may park several times.
pub(crate) struct Waiter<'word> {
    target: WaitTarget<'word>,
    pub(crate) thread: ThreadId,
    wait: Wait,
    /// Number of [spins](Self::spin), and the time of the first.
    spins: u32,
    first_spin_at: Option<Instant>,
    /// The time when this thread first tried to park. It determines the place in the queue.
    queued_since: Option<Instant>,
    /// Set if this thread runs signal handlers. `None` before the first poll.
    is_main_thread: Option<bool>,
    /// Set if this thread is importing a module. `None` before the first poll.
    is_importing: Option<bool>,
    /// The cycle that the last poll for import cycles found: threads, and the locks they wait for.
    import_cycle_seen: Option<Vec<(ThreadRef, usize)>>,
}

impl<'word> Waiter<'word> {
    pub(crate) fn new(
        word: &'word Word,
        kind: &'static LockKind,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Self {
        Waiter {
            target: WaitTarget {
                word,
                holders: Holders::Owner,
                kind,
                caller,
                draining: None,
            },
            thread: ThreadId::current(),
            wait: wait.started(),
            spins: 0,
            first_spin_at: None,
            queued_since: None,
            is_main_thread: None,
            is_importing: None,
            import_cycle_seen: None,
        }
    }

    /// Sets the [`DrainingOwner`] of the lock, for locks whose owner may wait for readers to drain.
    pub(crate) fn with_draining(mut self, draining: &'word DrainingOwner) -> Self {
        self.target.draining = Some(draining);
        self
    }

    /// Replaces the threads that this thread waits for, and allows it to spin again.
    pub(crate) fn set_holders(&mut self, holders: Holders) {
        self.target.holders = holders;
        (self.spins, self.first_spin_at) = (0, None);
    }

    /// Spins once, detached. Returns `false` if the thread has to park.
    ///
    /// With a GIL, returns `false`: the owner has to attach before it can unlock. Does not detach
    /// if finalization or a direct holder prevents the wait from ever ending (I2).
    pub(crate) fn spin(&mut self, py: Python<'_>) -> bool {
        if !FREE_THREADED || self.spins >= MAX_SPINS {
            return false;
        }
        if self.spins == 0 && self.deadlock_cause(py).is_some() {
            return false;
        }
        let now = Instant::now();
        let since = *self.first_spin_at.get_or_insert(now);
        let is_over = self.wait.get_deadline().is_some_and(|end| end <= now);
        if is_over || now.saturating_duration_since(since) >= MAX_SPIN_TIME {
            return false;
        }
        self.spins += 1;
        // Detached, so that the world can be stopped: a yield can last for a time slice (I1).
        python::detached(py, || {
            thread::yield_now();
            (0..SPIN_LOOP_HINTS).for_each(|_| hint::spin_loop());
        });
        true
    }

    /// Parks at `address` until the thread is unparked, or until a deadline, `recheck_after` or an
    /// interval of polling elapses.
    ///
    /// These are steps 2 to 7 of the protocol. The caller checks its condition and calls this
    /// again. Returns whether `recheck_after` elapsed before the thread was unparked. Fails only
    /// before it parks, so that the next call reports an expired deadline.
    ///
    /// `validate` runs under the lock of the queue. It returns `false` if there is nothing to wait
    /// for any more. Otherwise it [sets `PARKED`](Word::set_parked_if), if the owner relies on the
    /// flag.
    pub(crate) fn park(
        &mut self,
        py: Python<'_>,
        address: usize,
        recheck_after: Option<Duration>,
        validate: impl FnOnce() -> bool,
    ) -> Result<bool, Failure> {
        let period = self.poll_interpreter(py)?;
        let now = Instant::now();
        let recheck_at = recheck_after.map(|recheck_after| now + recheck_after);
        let end = self.wait.get_deadline();
        if end.is_some_and(|end| end <= now) {
            return Err(Failure::TimedOut);
        }
        if end.is_none() && recheck_after.is_none() {
            self.check_can_end(py)?;
        }
        let parker = Parker::new();
        let edge = match end {
            Some(_) => None,
            // SAFETY: the guard is dropped below, on every path.
            None => Some(unsafe { self.insert_edge() }?),
        };
        let deadline = [end, recheck_at, period.map(|period| now + period)]
            .into_iter()
            .flatten()
            .min();
        let since = *self.queued_since.get_or_insert(now);
        if !park::enqueue(&parker, address, self.thread, since, validate) {
            // The lock was released in between. The caller tries again, attached.
            return Ok(false);
        }
        let parked = python::detached(py, || {
            let parked = park::park(&parker, address, deadline);
            drop(edge);
            parked
        });
        let recheck_is_due = recheck_at.is_some_and(|recheck_at| Instant::now() >= recheck_at);
        Ok(parked == ParkResult::TimedOut && recheck_is_due)
    }

    fn elapsed(&self) -> Duration {
        self.queued_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns whether [`poll_interpreter`](Self::poll_interpreter), which [`park`](Self::park)
    /// calls first, may run foreign code.
    pub(crate) fn may_run_foreign_code(&self) -> bool {
        self.wait.is_interruptible()
            || self.wait.get_deadline().is_none() && self.elapsed() >= IMPORT_POLL_INTERVAL
    }

    /// Polls for signals and import cycles. Returns the interval until the next poll.
    fn poll_interpreter(&mut self, py: Python<'_>) -> Result<Option<Duration>, Failure> {
        let signals = self.poll_signals(py)?;
        let imports = self.poll_import_cycles(py)?;
        Ok(signals.into_iter().chain(imports).min())
    }

    fn poll_signals(&mut self, py: Python<'_>) -> Result<Option<Duration>, Failure> {
        if !self.wait.is_interruptible() {
            return Ok(None);
        }
        // The exception is saved: a destructor may wait while one is pending (I13).
        // `check_signals` resumes a panic that a handler raised as a `PanicException`.
        let look = AssertUnwindSafe(|| py.check_signals());
        exception_aside(py, || catch_unwind(look))
            .map_err(Failure::Panicked)?
            .map_err(Failure::Interrupted)?;
        let is_main_thread = self
            .is_main_thread
            .get_or_insert_with(|| python::may_handle_signals(py));
        Ok(is_main_thread.then_some(SIGNAL_POLL_INTERVAL))
    }

    /// Polls for cycles through import locks, once the wait has lasted for an interval.
    fn poll_import_cycles(&mut self, py: Python<'_>) -> Result<Option<Duration>, Failure> {
        if self.wait.get_deadline().is_some() {
            return Ok(None);
        }
        let elapsed = self.elapsed();
        if elapsed < IMPORT_POLL_INTERVAL {
            return Ok(Some(IMPORT_POLL_INTERVAL - elapsed));
        }
        let is_importing = self
            .is_importing
            .get_or_insert_with(|| import_lock::is_importing(py));
        if !*is_importing {
            return Ok(None);
        }
        let cycle = import_lock::find_cycle(py, self.thread, self.target);
        let seen = cycle.as_ref().map(|edges| {
            let wait = |edge: &WaitEdge| (edge.thread, edge.resource.address());
            edges.iter().map(wait).collect::<Vec<_>>()
        });
        match cycle {
            // The search is not atomic, so one result may combine waits of different times. A real
            // cycle is found again.
            Some(edges) if seen == self.import_cycle_seen => {
                let cause = Cause::Cycle;
                return Err(Failure::Deadlock(Deadlock { cause, edges }));
            }
            _ => self.import_cycle_seen = seen,
        }
        Ok(Some(IMPORT_POLL_INTERVAL))
    }

    /// Inserts the edge of this wait into the graph, unless it would complete a cycle.
    ///
    /// # Safety
    ///
    /// As for [`graph::insert`].
    unsafe fn insert_edge(&self) -> Result<EdgeGuard<'word>, Failure> {
        let cause = Cause::Cycle;
        // SAFETY: guaranteed by the caller.
        unsafe { graph::insert(self.thread, self.target) }
            .map_err(|edges| Failure::Deadlock(Deadlock { cause, edges }))
    }

    /// Returns an error if the wait can never end, for another reason than a cycle.
    fn check_can_end(&self, py: Python<'_>) -> Result<(), Failure> {
        match self.deadlock_cause(py) {
            // `graph::insert` reports cycles, including re-entry.
            None | Some(Cause::Cycle) => Ok(()),
            Some(cause) => {
                let edges = vec![self.target.edge_from(self.thread)];
                Err(Failure::Deadlock(Deadlock { cause, edges }))
            }
        }
    }

    /// Returns why the wait can never end, considering finalization and the direct holders.
    fn deadlock_cause(&self, py: Python<'_>) -> Option<Cause> {
        let (mut is_abandoned, mut is_reentrant) = (false, false);
        self.target.for_each_holder(|holder| {
            is_abandoned |= self.target.is_abandoned_by(holder);
            is_reentrant |= holder == self.thread;
            true
        });
        // A cell whose initializer was lost to a fork counts as empty, so that the wait can end.
        if is_abandoned && !self.target.kind.has_initializer() {
            Some(Cause::Abandoned)
        } else if is_reentrant {
            Some(Cause::Cycle)
        } else if is_finalizing(py) {
            Some(Cause::Finalizing)
        } else {
            None
        }
    }
}
