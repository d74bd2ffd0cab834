//! Waiting: the only place of the crate where a thread blocks.
//!
//! # Invariants
//!
//! Comments of the crate cite these by number.
//!
//! | | invariant |
//! |---|---|
//! | I1 | No thread blocks while attached. |
//! | I2 | No thread detaches unless it has to wait. |
//! | I3 | Only attached threads acquire and release locks. A woken waiter attaches first. |
//! | I4 | A wait that can never end is reported. |
//! | I5 | `&mut T` lives across a suspension only under a lock or a dynamic borrow flag. |
//! | I6 | Traversal never blocks or attaches, and sees one state per stop of the world. |
//! | I7 | A forked child never hangs on anything of a thread that was lost to the fork. |
//! | I8 | Fast paths are inlined. GIL builds use plain loads and stores. |
//! | I9 | No panic or early return leaves a waiter parked for good, or data half-written. |
//! | I10 | Everything works on every supported build. |
//! | I11 | A failed attempt leaves no trace: it blocks no thread and wakes no thread. |
//! | I12 | The cost of an operation depends only on the threads and locks that exist now. |
//! | I13 | Waiting uses nothing of the user's: no unpark token, signal mask or pending exception. |
//!
//! # Protocol
//!
//! The [`Word`] of a lock stores its owner. A thread that waits for a lock does the following:
//!
//! 1. **Try** to acquire the lock, attached. On a free-threaded build, spin and try again.
//!    With a GIL spinning is useless: no other thread can release the lock meanwhile.
//! 2. **Check** that the wait can end, and **publish** an edge of the wait-for [`graph`]. If the
//!    wait can never end, return a [`Deadlock`] instead.
//! 3. **Enqueue** at the address of the word and set [`PARKED`], under the lock of the queue,
//!    unless the word shows that the lock was released.
//! 4. **Detach**.
//! 5. **Park**.
//! 6. **Retract** the edge.
//! 7. **Attach**, and continue at step 1.
//!
//! A waiter attaches before it acquires (I3). If it owned the lock while waiting to attach, it
//! could deadlock with an attached thread that waits for the lock. So ownership is never handed
//! over. The lock is at most *reserved* for a waiter, until the reservation expires.
//!
//! `PARKED` is set as late as possible. An owner that finds it set but the queue empty clears it,
//! and the waiter has to start over.
//!
//! The edge is retracted before attaching, because attaching may run other code on this thread. If
//! that code acquired a lock, the stale edge would seem to complete a cycle.
//!
//! # Obligations of a lock
//!
//! - It changes its word only while attached, except with [`Word::bump_sequence`].
//! - It unparks waiters after it has released the word.
//! - A waiter that was unparked checks the word again before it returns an error. No other thread
//!   may have been woken.
//! - If the unlocking thread clears `PARKED` while others wait, as the mutex does, the unparked
//!   waiter becomes responsible for them. It runs no foreign code before it has set the flag again
//!   or woken the next waiter.
//!
//! # Polling
//!
//! A parked thread does not poll, with four exceptions:
//!
//! - A waiter behind a reservation tries again after [`RESERVATION_TIMEOUT`].
//! - A writer that waits for [`readers`] to drain scans them once more after a millisecond.
//! - In an interruptible wait, the thread that handles signals polls for them.
//! - A thread that waits during an import polls for cycles through [import locks](import_lock).

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
    word::{FLAG, PARKED, Pending, SECOND_FLAG, UNOWNED, Word},
};
use self::{
    graph::{EdgeGuard, WaitTarget},
    park::{ParkResult, Parker},
};
use crate::python::{self, FREE_THREADED, exception_aside, is_finalizing};

/// Time after which the reservation of a lock for an unparked waiter expires.
///
/// Long enough to wake up and attach on a busy machine. Short compared to 5 ms, for which CPython
/// lets a thread keep the GIL by default, times the threads that wait for the GIL.
pub(crate) const RESERVATION_TIMEOUT: Duration = Duration::from_millis(10);

/// Maximum number of spins in total, even if the thread parks in between. CPython's
/// `MAX_SPIN_COUNT` is 40.
///
/// Bounded, because a lock cannot be reserved for a thread that is in no queue. A parked thread
/// costs the owner a system call to wake it.
const MAX_SPINS: u32 = 60;

/// Number of spin-loop hints between two attempts, which would otherwise take the cache line of the
/// word from the owner too often.
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
    /// A Python signal handler raised an exception. Only of an interruptible wait.
    Interrupted(PyErr),
    /// Rust code called by a Python signal handler panicked. The panic is resumed after the caller
    /// has cleaned up. Only of an interruptible wait.
    Panicked(Box<dyn Any + Send>),
    /// Only of a wait with a timeout or deadline.
    TimedOut,
}

/// The state of one attempt to acquire a lock, which may park several times.
pub(crate) struct Waiter<'word> {
    target: WaitTarget<'word>,
    pub(crate) thread: ThreadId,
    wait: Wait,
    /// Number of [spins](Self::spin), and the time of the first.
    spins: u32,
    spins_since: Option<Instant>,
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
        kind: LockKind,
        wait: Wait,
        caller: &'static Location<'static>,
    ) -> Self {
        Waiter {
            target: WaitTarget {
                word,
                holders: Holders::Owner,
                kind,
                caller,
                pending: None,
            },
            thread: ThreadId::current(),
            wait: wait.started(),
            spins: 0,
            spins_since: None,
            queued_since: None,
            is_main_thread: None,
            is_importing: None,
            import_cycle_seen: None,
        }
    }

    /// Sets the [`Pending`] of the lock, for locks whose owner may wait for readers to drain.
    pub(crate) fn with_pending(mut self, pending: &'word Pending) -> Self {
        self.target.pending = Some(pending);
        self
    }

    /// Replaces the threads that this thread waits for, and allows it to spin again.
    pub(crate) fn set_holders(&mut self, holders: Holders) {
        self.target.holders = holders;
        (self.spins, self.spins_since) = (0, None);
    }

    /// Spins once, detached. Returns `false` if the thread has to park.
    ///
    /// Does nothing with a GIL, where the owner would have to attach before it could unlock. Does
    /// not detach if the wait would be reported at once (I2).
    pub(crate) fn spin(&mut self, py: Python<'_>) -> bool {
        if !FREE_THREADED || self.spins >= MAX_SPINS {
            return false;
        }
        if self.spins == 0 && self.why_endless(py).is_some() {
            return false;
        }
        let now = Instant::now();
        let since = *self.spins_since.get_or_insert(now);
        let is_over = self.wait.end().is_some_and(|end| end <= now);
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

    /// Parks at `address` until the thread is unparked or the wait fails.
    ///
    /// These are steps 2 to 7 of the protocol. With `recheck_after`, parks for that time at most,
    /// and returns whether it has elapsed.
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
        let end = self.wait.end();
        if end.is_some_and(|end| end <= now) {
            return Err(Failure::TimedOut);
        }
        if end.is_none() && recheck_after.is_none() {
            self.check_holders(py)?;
        }
        let parker = Parker::new();
        let edge = match end {
            Some(_) => None,
            None => Some(self.insert_edge()?),
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
            || self.wait.end().is_none() && self.elapsed() >= IMPORT_POLL_INTERVAL
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
        // PyO3 resumes a panic of Rust code that a handler called.
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
        if self.wait.end().is_some() {
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
    fn insert_edge(&self) -> Result<EdgeGuard<'word>, Failure> {
        let cause = Cause::Cycle;
        graph::insert(self.thread, self.target)
            .map_err(|edges| Failure::Deadlock(Deadlock { cause, edges }))
    }

    /// Returns an error if a holder can never release the lock.
    fn check_holders(&self, py: Python<'_>) -> Result<(), Failure> {
        match self.why_endless(py) {
            // `publish` reports cycles, including re-entry.
            None | Some(Cause::Cycle) => Ok(()),
            Some(cause) => {
                let edges = vec![self.target.edge_from(self.thread)];
                Err(Failure::Deadlock(Deadlock { cause, edges }))
            }
        }
    }

    /// Returns why the wait can never end, considering the direct holders only.
    fn why_endless(&self, py: Python<'_>) -> Option<Cause> {
        let (mut someone_is_gone, mut it_is_me) = (false, false);
        self.target.for_each_holder(|holder| {
            someone_is_gone |= self.target.is_abandoned_by(holder);
            it_is_me |= holder == self.thread;
            true
        });
        // A cell whose initializer was lost to a fork counts as empty, so that the wait can end.
        if someone_is_gone && !self.target.kind.is_initializer() {
            Some(Cause::Abandoned)
        } else if it_is_me {
            Some(Cause::Cycle)
        } else if is_finalizing(py) {
            Some(Cause::Finalizing)
        } else {
            None
        }
    }
}
