//! [`PyBarrier`]: a meeting point of attached threads.

use std::{
    fmt,
    panic::Location,
    time::{Duration, Instant},
};

use pyo3::prelude::*;

use crate::{
    DeadlockError, PyCondvar, PyMutex, PyMutexGuard,
    deadlock::LockKind,
    guard::Guard,
    wait::{Patience, Refusal, fork},
};

/// Lets attached threads wait for each other, detached, until as many have come as it is for. Then it can be used again.
///
/// As [`std::sync::Barrier`], at which a thread that waits keeps the interpreter to itself.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyBarrier;
///
/// static BOTH: PyBarrier = PyBarrier::new(2);
///
/// /// Two Python threads that call this go on together.
/// #[pyfunction]
/// fn meet(py: Python<'_>) -> PyResult<bool> {
///     Ok(BOTH.wait_interruptible(py)?.is_leader())
/// }
/// # Python::initialize();
/// # Python::attach(|py| py.detach(|| std::thread::scope(|scope| {
/// #     let other = scope.spawn(|| Python::attach(|py| meet(py).unwrap()));
/// #     let this = Python::attach(|py| meet(py).unwrap());
/// #     assert_ne!(other.join().unwrap(), this);
/// # })));
/// ```
///
/// In the child of a fork, threads that had come before the fork do not count: they do not exist there.
///
/// # Not here
///
/// Of [`std::sync::Barrier`] nothing is missing. Of Python's `threading.Barrier`: `abort` and `reset`, which break the waits of others, and
/// the broken state; a thread that leaves, with Ctrl-C or because its time is up, is taken off the count, and the others
/// wait on. The forms with a limit do not look for signals, as everywhere in this crate ([`PyMutex`](crate::PyMutex#not-here)). `Default`,
/// since no number of threads is a good one.
pub struct PyBarrier {
    threads: usize,
    state: PyMutex<State>,
    complete: PyCondvar,
}

struct State {
    /// How many threads have come.
    waiting: usize,
    /// How often the barrier has been complete.
    generation: usize,
    /// The [process](fork::process) in which they have come. In the child of a fork they do not exist.
    process: u32,
}

impl State {
    /// Counts a thread that comes.
    fn add(&mut self) {
        let process = fork::process();
        if self.process != process {
            self.process = process;
            self.waiting = 0;
        }
        self.waiting += 1;
    }
}

/// What [`PyBarrier::wait`] tells each thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PyBarrierWaitResult {
    is_leader: bool,
}

impl PyBarrierWaitResult {
    /// Whether this is the one thread of those that met, the last to come, which is told so.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

impl PyBarrier {
    /// A barrier for that many threads. For none or one it keeps nobody waiting.
    pub const fn new(threads: usize) -> Self {
        PyBarrier {
            threads,
            state: PyMutex::new(State {
                waiting: 0,
                generation: 0,
                process: 0,
            }),
            complete: PyCondvar::new(),
        }
    }

    /// Waits until as many threads have come as the barrier is for.
    ///
    /// # Panics
    ///
    /// While the interpreter is shutting down, when no other thread can come any more. The thread does not count as having come then.
    #[track_caller]
    pub fn wait(&self, py: Python<'_>) -> PyBarrierWaitResult {
        match self.wait_patiently(py, Patience::Forever, Location::caller()) {
            Ok(result) => result,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// [`wait`](Self::wait), with an error where that panics.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`] while the interpreter is shutting down.
    #[track_caller]
    pub fn wait_checked(&self, py: Python<'_>) -> Result<PyBarrierWaitResult, DeadlockError> {
        self.wait_patiently(py, Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// [`wait`](Self::wait), and lets Ctrl-C end the wait.
    ///
    /// # Errors
    ///
    /// What a signal handler raised, or a [`DeadlockError`] where [`wait`](Self::wait) panics. The thread does not count as having
    /// come then, unless the last one came at the very moment at which the handler ran: the exception is not lost for that.
    #[track_caller]
    pub fn wait_interruptible(&self, py: Python<'_>) -> PyResult<PyBarrierWaitResult> {
        Ok(self.wait_patiently(py, Patience::Interruptible, Location::caller())?)
    }

    /// [`wait`](Self::wait), at most for that long. `None` if too few threads have come by then; this one does not count as having come.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::PyBarrier;
    /// # use std::time::Duration;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let barrier = PyBarrier::new(2);
    /// assert!(barrier.wait_for(py, Duration::from_millis(1)).is_none());
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait), if the limit is too long to be added to the current time, and so is none.
    #[track_caller]
    pub fn wait_for(&self, py: Python<'_>, limit: Duration) -> Option<PyBarrierWaitResult> {
        in_time(self.wait_patiently(py, Patience::for_duration(limit), Location::caller()))
    }

    /// [`wait`](Self::wait), at most until `limit`, as [`wait_for`](Self::wait_for).
    #[track_caller]
    pub fn wait_until(&self, py: Python<'_>, limit: Instant) -> Option<PyBarrierWaitResult> {
        in_time(self.wait_patiently(py, Patience::Until(limit), Location::caller()))
    }

    fn wait_patiently(
        &self,
        py: Python<'_>,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<PyBarrierWaitResult, Refusal> {
        let mut state = self.lock(py, patience, asked_at)?;
        state.add();
        if state.waiting >= self.threads {
            state.waiting = 0;
            state.generation = state.generation.wrapping_add(1);
            self.complete.notify_all();
            return Ok(PyBarrierWaitResult { is_leader: true });
        }
        let (generation, counted_in) = (state.generation, state.process);
        loop {
            let waited =
                self.complete
                    .wait_patiently(&mut state, patience, LockKind::Barrier, asked_at);
            // A guard that holds nothing does not show the state. No other thread can come then.
            let is_complete = Guard::is_held(&state) && state.generation != generation;
            match waited {
                Ok(()) | Err(Refusal::TimedOut) if is_complete => {
                    return Ok(PyBarrierWaitResult { is_leader: false });
                }
                Ok(()) => {}
                Err(refusal) => {
                    // A signal handler may have forked, and others have come in the child since: they are counted without this one.
                    if Guard::is_held(&state) && !is_complete && state.process == counted_in {
                        state.waiting -= 1;
                    }
                    return Err(refusal);
                }
            }
        }
    }

    fn lock<'a>(
        &'a self,
        py: Python<'a>,
        patience: Patience,
        asked_at: &'static Location<'static>,
    ) -> Result<PyMutexGuard<'a, State>, Refusal> {
        // A fork can only leave the mutex behind locked if it is none of Python's, for which all threads stop where they hold nothing
        // of this kind.
        // SAFETY: the data are numbers, which are whole wherever their owner was, and they are lent to nobody.
        if unsafe { self.state.recover_abandoned(py) }.is_some() {
            self.state.clear_poison(py);
        }
        self.state.lock_with(py, || patience, asked_at)
    }
}

/// The outcome of a wait with a limit.
#[track_caller]
fn in_time(waited: Result<PyBarrierWaitResult, Refusal>) -> Option<PyBarrierWaitResult> {
    match waited {
        Ok(result) => Some(result),
        Err(Refusal::TimedOut) => None,
        // The limit was none, or the interpreter is shutting down.
        Err(refusal) => refusal.into_deadlock().panic(),
    }
}

impl fmt::Debug for PyBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyBarrier")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
