//! [`PyBarrier`]: a barrier for attached threads.

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

/// A barrier: attached threads block until a given number of them has arrived.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::PyBarrier;
///
/// static BOTH: PyBarrier = PyBarrier::new(2);
///
/// /// Two Python threads that call this rendezvous.
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
/// The barrier can be used again afterwards. Waiting threads are detached; at a
/// [`std::sync::Barrier`] they would stay attached and block the interpreter.
///
/// In a forked child, threads that arrived before the fork do not count.
///
/// # Differences from `std` and `threading`
///
/// | elsewhere | here |
/// |---|---|
/// | `abort`, `reset`, broken state of `threading.Barrier` | not available |
/// | a timeout breaks a `threading.Barrier` | the thread is uncounted, the others keep waiting |
/// | `Default` | not available: no number of threads suits |
///
/// Timeouts are not interruptible by signals: see [`PyMutex::try_lock_until`].
pub struct PyBarrier {
    threads: usize,
    state: PyMutex<State>,
    complete: PyCondvar,
}

struct State {
    /// Number of threads that have arrived.
    waiting: usize,
    /// Number of times that the barrier was completed.
    generation: usize,
    /// The [fork generation](fork::process) in which they arrived. They do not exist in a forked
    /// child.
    process: u32,
}

impl State {
    /// Counts an arriving thread.
    fn add(&mut self) {
        let process = fork::process();
        if self.process != process {
            self.process = process;
            self.waiting = 0;
        }
        self.waiting += 1;
    }
}

/// The result of [`PyBarrier::wait`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PyBarrierWaitResult {
    is_leader: bool,
}

impl PyBarrierWaitResult {
    /// Returns whether this thread is the leader, the last one to arrive.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

impl PyBarrier {
    /// Creates a barrier for `threads` threads. With 0 or 1, no thread blocks.
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

    /// Blocks until all threads have arrived.
    ///
    /// # Panics
    ///
    /// If the interpreter is shutting down and no other thread can arrive. The thread is not
    /// counted then.
    #[track_caller]
    pub fn wait(&self, py: Python<'_>) -> PyBarrierWaitResult {
        match self.wait_patiently(py, Patience::Forever, Location::caller()) {
            Ok(result) => result,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }

    /// Blocks until all threads have arrived, or returns an error where [`wait`](Self::wait)
    /// panics.
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`] if the interpreter is shutting down.
    #[track_caller]
    pub fn wait_checked(&self, py: Python<'_>) -> Result<PyBarrierWaitResult, DeadlockError> {
        self.wait_patiently(py, Patience::Forever, Location::caller())
            .map_err(Refusal::into_deadlock)
    }

    /// Blocks until all threads have arrived. The wait is interruptible by signals.
    ///
    /// # Errors
    ///
    /// - The exception of a signal handler.
    /// - A [`DeadlockError`] where [`wait`](Self::wait) panics.
    ///
    /// The thread is not counted then, unless the last thread arrived while the handler ran. The
    /// exception is returned in that case too.
    #[track_caller]
    pub fn wait_interruptible(&self, py: Python<'_>) -> PyResult<PyBarrierWaitResult> {
        Ok(self.wait_patiently(py, Patience::Interruptible, Location::caller())?)
    }

    /// Blocks until all threads have arrived, for at most `limit`.
    ///
    /// Returns `None` if the timeout expires. The thread is not counted then.
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
    /// As [`wait`](Self::wait), if the timeout cannot be added to the current time and never
    /// expires.
    #[track_caller]
    pub fn wait_for(&self, py: Python<'_>, limit: Duration) -> Option<PyBarrierWaitResult> {
        in_time(self.wait_patiently(py, Patience::for_duration(limit), Location::caller()))
    }

    /// Blocks until all threads have arrived, or until the deadline `limit`.
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
            // A released guard does not give access to the state. No other thread can arrive then.
            let is_complete = Guard::is_held(&state) && state.generation != generation;
            match waited {
                Ok(()) | Err(Refusal::TimedOut) if is_complete => {
                    return Ok(PyBarrierWaitResult { is_leader: false });
                }
                Ok(()) => {}
                Err(refusal) => {
                    // A signal handler may have forked. Threads that arrived in the child are
                    // counted without this one.
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
        // Only a fork outside of Python can leave the mutex locked: `os.fork` stops all threads
        // where they hold no such lock.
        // SAFETY:
        // - The data are integers, which are valid wherever the fork interrupted their owner.
        // - They are never lent.
        if unsafe { self.state.recover_abandoned(py) }.is_some() {
            self.state.clear_poison(py);
        }
        self.state.lock_with(py, || patience, asked_at)
    }
}

/// Returns the outcome of a wait with a timeout.
#[track_caller]
fn in_time(waited: Result<PyBarrierWaitResult, Refusal>) -> Option<PyBarrierWaitResult> {
    match waited {
        Ok(result) => Some(result),
        Err(Refusal::TimedOut) => None,
        // The timeout never expires, or the interpreter is shutting down.
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
