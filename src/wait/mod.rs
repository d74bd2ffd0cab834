//! Waiting: the only place of the crate where a thread sleeps.
//!
//! # The protocol
//!
//! A lock of this crate is a [`Word`] that says who owns it. A thread that cannot have it goes through these steps,
//! in this order, until it can:
//!
//! 1. **Look** at the word, attached. If the lock can be had, take it and be done. With free threading look a few
//!    times more, since most owners need only a moment; with a GIL nothing can change while this thread is attached.
//! 2. **Check** that the wait can end, and **publish** it, in one step: the wait is an edge of a graph ([`graph`]), and if it
//!    would complete a cycle, or its end is an owner that can never run again, it is a [`DeadlockError`], not a sleep.
//! 3. **Enter** the queue of the word's address, if the word, read again under the lock of that queue, still says
//!    that there is something to wait for, and **mark** the word with [`PARKED`] under the same lock, so that its owner will look
//!    for sleepers.
//! 4. **Detach** from the interpreter. From here until step 7 nothing of Python's is touched.
//! 5. **Park** until somebody takes this thread off the queue.
//! 6. **Retract** the edge.
//! 7. **Attach**. Only then back to step 1.
//!
//! That the lock is taken only after attaching is what makes the crate's locks safe to use from Python (invariant I3): a
//! thread that acquires first and attaches afterwards owns a lock while it waits for the interpreter, and whoever has the
//! interpreter may be waiting for that lock. Therefore nobody hands a lock to a sleeper. At most the lock is
//! *reserved* for it, which others respect for a while and then do not.
//!
//! The word is marked as late as can be because an owner that finds the mark, and then nobody in the queue, has lost time and takes the
//! mark off again; and the thread, refused, begins anew. When the mark came first, and steps 2 and 4 after it, 19 of 20 sleepers
//! behind owners of 100 ns were refused, and each turn of the owner took twice as long.
//!
//! The edge is retracted before attaching because attaching may take long, and run other code on this thread in the end: a
//! lock taken there would seem to close a cycle through a wait that is over.
//!
//! # What a primitive owes
//!
//! It changes its word only while attached, wakes sleepers when it has given the word up, and never gives up waiting
//! after having been woken without looking at the word once more: the wake-up may have been the only one. If it wakes a sleeper and then
//! says in the word that there are none, as the mutex does, that sleeper answers for the others, and runs nobody's code before it has.
//!
//! # What a parked thread costs
//!
//! Nothing: a parked thread does not poll, with four exceptions. A thread behind a reservation
//! tries again after [`RESERVATION`]. A writer that waits for readers looks again once, after a
//! millisecond ([`readers`]). In an interruptible wait, the thread that handles signals polls for
//! them every [`SIGNALS`]. A thread that has waited for [`IMPORTS`] checks whether it is importing
//! a module, and if so checks for a cycle through the lock of that module at the same interval
//! ([`import_lock`]).

pub(crate) mod fork;
mod graph;
pub(crate) mod ident;
mod import_lock;
mod interpreter;
mod park;
pub(crate) mod process_fence;
pub(crate) mod readers;
mod thread_id;
mod threads;
mod word;

use std::{
    any::Any,
    hint,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    thread,
    time::{Duration, Instant},
};

use pyo3::{PyErr, Python};

pub(crate) use self::{
    graph::{Awaited, Holders, Link, Party},
    interpreter::{exception_aside, is_finalizing, loaded_module, sleep_detached},
    park::{Crowd, Front, unpark_all, unpark_all_and_one, unpark_one, unpark_one_fairly},
    thread_id::ThreadId,
    threads::{known, with_ident},
    word::{FLAG, PARKED, Pending, SECOND_FLAG, UNOWNED, Word},
};
use self::{
    graph::{Published, Wanted},
    park::{Parked, Parker},
};
use crate::{
    build_config::FREE_THREADED,
    deadlock::{Cause, DeadlockError, LockKind},
};

/// How long others leave a lock alone that is reserved for a sleeper that was woken.
///
/// Long enough for a thread to wake up and attach on a busy machine, and short beside the 5 ms for which CPython
/// lets a thread keep the GIL by default, times the threads that want it.
pub(crate) const RESERVATION: Duration = Duration::from_millis(10);

/// How often a thread that cannot have a lock looks again before it sleeps, in all: a thread
/// that spins is in no queue, so no lock can be reserved for it.
///
/// CPython looks 40 times (`MAX_SPIN_COUNT` in `Python/lock.c`). These numbers are the best of a dozen pairs in fights of 2, 4 and 8 threads on
/// two processors, for 0, 100 and 1,000 ns: a thread that spins costs the owner little, one that has to be woken costs it a
/// system call.
const SPINS: u32 = 60;

/// What a thread does between two looks, after it has offered its processor to others: to look at once makes the word go to and fro between
/// processors, while the owner could lock and unlock many times.
const PAUSES: u32 = 50;

/// For how long at most: as long as a sleeper has to wait until it is let in before others.
const SPIN_TIME: Duration = Duration::from_millis(1);

/// Interval at which the thread that handles signals polls for them in an interruptible wait.
const SIGNALS: Duration = Duration::from_millis(50);

/// How long a thread waits before it looks whether it does so in the middle of an import, and how often it then looks for a
/// cycle through import locks. It reports what it has seen twice in a row.
const IMPORTS: Duration = Duration::from_millis(300);

/// How long a thread is ready to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Forever,
    /// Until a handler of a Python signal raises an exception.
    Interruptible,
    /// Until this time. Such a wait ends by itself, and so is never reported as a deadlock.
    Until(Instant),
}

impl Patience {
    /// For that long from now; for ever, if that is beyond all time.
    pub(crate) fn for_duration(limit: Duration) -> Self {
        Instant::now()
            .checked_add(limit)
            .map_or(Patience::Forever, Patience::Until)
    }
}

/// Why a wait ended without the thread getting what it waited for.
pub(crate) enum Refusal {
    Deadlock(DeadlockError),
    /// Only with [`Patience::Interruptible`].
    Interrupted(PyErr),
    /// A handler of a Python signal called Rust code that panicked, which goes on as a panic here: where all that has to be
    /// cleaned up after a wait has been. Only with [`Patience::Interruptible`].
    Panicked(Box<dyn Any + Send>),
    /// Only with [`Patience::Until`].
    TimedOut,
}

impl Refusal {
    /// For callers whose patience is for ever, and others that have dealt with what else there is, except for a panic: that goes on.
    pub(crate) fn into_deadlock(self) -> DeadlockError {
        match self {
            Refusal::Deadlock(error) => error,
            Refusal::Panicked(panic) => resume_unwind(panic),
            Refusal::Interrupted(_) | Refusal::TimedOut => {
                unreachable!("this wait has no limit and cannot be interrupted")
            }
        }
    }
}

/// For callers that can be interrupted.
impl From<Refusal> for PyErr {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Interrupted(error) => error,
            other => other.into_deadlock().into(),
        }
    }
}

/// One attempt to get hold of a word, however many times it has to sleep.
pub(crate) struct Waiter<'word> {
    wanted: Wanted<'word>,
    pub(crate) thread: ThreadId,
    patience: Patience,
    /// How often this thread has [spun](Self::spin), and when it began to.
    spins: u32,
    spins_since: Option<Instant>,
    /// When this thread first tried to fall asleep, which is its place in the queue.
    since: Option<Instant>,
    /// Whether this is the thread that runs signal handlers; found out before the first sleep.
    handles_signals: Option<bool>,
    /// Whether this thread is importing a module; found out when it has waited for long.
    is_importing: Option<bool>,
    /// The cycle through import locks that was seen at the last look: threads, and what they waited for.
    suspected: Option<Vec<(Party, usize)>>,
}

impl<'word> Waiter<'word> {
    pub(crate) fn new(
        word: &'word Word,
        kind: LockKind,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Self {
        Waiter {
            wanted: Wanted {
                word,
                holders: Holders::Owner,
                kind,
                asked_at,
                pending: None,
            },
            thread: ThreadId::current(),
            patience,
            spins: 0,
            spins_since: None,
            since: None,
            handles_signals: None,
            is_importing: None,
            suspected: None,
        }
    }

    /// Tells where it stands whether the owner in the word only waits itself.
    pub(crate) fn with_pending(mut self, pending: &'word Pending) -> Self {
        self.wanted.pending = Some(pending);
        self
    }

    /// Waits for other threads than the owner in the word from here on.
    pub(crate) fn wait_for(&mut self, holders: Holders) {
        self.wanted.holders = holders;
        (self.spins, self.spins_since) = (0, None);
    }

    /// Lets others run for a moment, instead of going to sleep at once. Gives false when it is time to sleep.
    ///
    /// With a GIL nothing is won: where this thread could give way to the owner, that would have to attach as well. Nor does a thread
    /// spin, and so detach, that is going to be told at once that it waits for itself, or for nobody.
    pub(crate) fn spin(&mut self, py: Python<'_>) -> bool {
        if !FREE_THREADED || self.spins >= SPINS {
            return false;
        }
        if self.spins == 0 && self.futility(py).is_some() {
            return false;
        }
        let now = Instant::now();
        let since = *self.spins_since.get_or_insert(now);
        let is_over = matches!(self.patience, Patience::Until(limit) if limit <= now);
        if is_over || now.saturating_duration_since(since) >= SPIN_TIME {
            return false;
        }
        self.spins += 1;
        // Detached, so that the world can be stopped: where processors are few, each yield can take a time slice of somebody else's.
        interpreter::detached(py, || {
            thread::yield_now();
            (0..PAUSES).for_each(|_| hint::spin_loop());
        });
        true
    }

    /// Steps 2 to 7 of the protocol: sleeps at `address`, if `validate` agrees, until it is woken, but no longer than the patience
    /// of the thread, or `pause` if that is shorter. Gives whether the pause is over.
    ///
    /// `validate` runs under the lock of the queue, says whether there still is something to wait for, and [marks](Word::mark) the word, if
    /// its owner needs that to look for sleepers.
    pub(crate) fn sleep(
        &mut self,
        py: Python<'_>,
        address: usize,
        pause: Option<Duration>,
        validate: impl FnOnce() -> bool,
    ) -> Result<bool, Refusal> {
        let period = self.make_rounds(py)?;
        let now = Instant::now();
        let pause_over = pause.map(|pause| now + pause);
        let limit = match self.patience {
            Patience::Until(limit) if limit <= now => return Err(Refusal::TimedOut),
            Patience::Until(limit) => Some(limit),
            Patience::Forever | Patience::Interruptible => None,
        };
        if limit.is_none() && pause.is_none() {
            self.check_owner(py).map_err(Refusal::Deadlock)?;
        }
        let parker = Parker::new();
        let edge = match limit {
            Some(_) => None,
            None => Some(self.publish(py)?),
        };
        let deadline = [limit, pause_over, period.map(|period| now + period)]
            .into_iter()
            .flatten()
            .min();
        let since = *self.since.get_or_insert(now);
        if !park::enter(&parker, address, self.thread, since, validate) {
            // Somebody gave the word up in the last moment. That does not happen often in a row, so that this thread may stay attached.
            return Ok(false);
        }
        let parked = interpreter::detached(py, || {
            let parked = park::park(&parker, address, deadline);
            drop(edge);
            parked
        });
        let pause_is_over = pause_over.is_some_and(|pause_over| Instant::now() >= pause_over);
        Ok(parked == Parked::TimedOut && pause_is_over)
    }

    fn waited(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether [`make_rounds`](Self::make_rounds), with which a sleep begins, may run code of others: a signal handler, or what a look for
    /// imports sets off.
    pub(crate) fn may_run_other_code(&self) -> bool {
        match self.patience {
            Patience::Until(_) => false,
            Patience::Interruptible => true,
            Patience::Forever => self.waited() >= IMPORTS,
        }
    }

    /// Attends to what nobody wakes this thread for, and gives the time after which to do so again.
    fn make_rounds(&mut self, py: Python<'_>) -> Result<Option<Duration>, Refusal> {
        if let Patience::Until(_) = self.patience {
            return Ok(None);
        }
        let signals = self.look_for_signals(py)?;
        let imports = self.look_for_imports(py)?;
        Ok(signals.into_iter().chain(imports).min())
    }

    fn look_for_signals(&mut self, py: Python<'_>) -> Result<Option<Duration>, Refusal> {
        if self.patience != Patience::Interruptible {
            return Ok(None);
        }
        // Whoever waits in a destructor may have an exception on its way; it goes on after that of a handler.
        // If a handler has called Rust code that panicked, PyO3 lets the panic go on from here.
        let look = AssertUnwindSafe(|| py.check_signals());
        exception_aside(py, || catch_unwind(look))
            .map_err(Refusal::Panicked)?
            .map_err(Refusal::Interrupted)?;
        let handles_signals = self
            .handles_signals
            .get_or_insert_with(|| interpreter::may_handle_signals(py));
        Ok(handles_signals.then_some(SIGNALS))
    }

    /// Most waits are over before this asks the interpreter for anything.
    fn look_for_imports(&mut self, py: Python<'_>) -> Result<Option<Duration>, Refusal> {
        let waited = self.waited();
        if waited < IMPORTS {
            return Ok(Some(IMPORTS - waited));
        }
        let is_importing = self
            .is_importing
            .get_or_insert_with(|| import_lock::is_importing(py));
        if !*is_importing {
            return Ok(None);
        }
        let cycle = import_lock::find_cycle(py, self.thread, self.wanted);
        let seen = cycle.as_ref().map(|links| {
            let wait = |link: &Link| (link.thread, link.awaited.address());
            links.iter().map(wait).collect::<Vec<_>>()
        });
        match cycle {
            // A cycle that is one stays one. What was put together while its threads went on does not come again.
            Some(links) if seen == self.suspected => {
                let error = DeadlockError::new(py, Cause::Cycle, links);
                return Err(Refusal::Deadlock(error));
            }
            _ => self.suspected = seen,
        }
        Ok(Some(IMPORTS))
    }

    /// Enters this wait in the graph, unless it would complete a cycle.
    fn publish(&self, py: Python<'_>) -> Result<Published<'word>, Refusal> {
        graph::publish(self.thread, self.wanted)
            .map_err(|cycle| Refusal::Deadlock(DeadlockError::new(py, Cause::Cycle, cycle)))
    }

    /// Whether those that the thread waits for can run again.
    fn check_owner(&self, py: Python<'_>) -> Result<(), DeadlockError> {
        match self.futility(py) {
            // Of cycles, those of one thread too, `publish` tells.
            None | Some(Cause::Cycle) => Ok(()),
            Some(cause) => {
                let link = self.wanted.link(self.thread);
                Err(DeadlockError::new(py, cause, vec![link]))
            }
        }
    }

    /// Why this thread would wait in vain, as far as that is seen without asking whom others wait for.
    fn futility(&self, py: Python<'_>) -> Option<Cause> {
        let (mut someone_is_gone, mut it_is_me) = (false, false);
        self.wanted.for_each_holder(|holder| {
            someone_is_gone |= self.wanted.is_abandoned_by(holder);
            it_is_me |= holder == self.thread;
            true
        });
        // A cell whose owner is gone counts as empty, and somebody else may fill it.
        if someone_is_gone && !self.wanted.kind.is_cell() {
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
