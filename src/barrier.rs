//! [`PyBarrier`]: a barrier for attached threads.

use std::{fmt, panic::Location};

use pyo3::prelude::*;

use crate::{
    condvar::PyCondvar,
    error::{DeadlockError, WaitError},
    guard::Guard,
    mutex::{PyMutex, PyMutexGuard},
    wait::{Failure, LockKind, Role, Wait, fork},
};

const KIND: &LockKind = &LockKind {
    name: "PyBarrier",
    role: Role::Rendezvous,
};

/// A barrier: attached threads block until a given number of them has arrived.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::{PyBarrier, Wait};
///
/// static BOTH: PyBarrier = PyBarrier::new(2);
///
/// /// Two Python threads that call this rendezvous.
/// #[pyfunction]
/// fn meet(py: Python<'_>) -> PyResult<bool> {
///     Ok(BOTH.wait_with(py, Wait::new().interruptible())?.is_leader())
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
pub struct PyBarrier {
    threads: usize,
    state: PyMutex<State>,
    all_arrived: PyCondvar,
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
    #[track_caller]
    pub const fn new(threads: usize) -> Self {
        PyBarrier {
            threads,
            state: PyMutex::new(State {
                waiting: 0,
                generation: 0,
                process: 0,
            }),
            all_arrived: PyCondvar::new(),
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
        match self.wait_at(py, &Wait::FOREVER, Location::caller()) {
            Ok(result) => result,
            Err(failure) => DeadlockError::new(py, failure).panic(),
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
        self.wait_at(py, &Wait::FOREVER, Location::caller())
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Blocks until all threads have arrived, waiting as `wait` says: with a timeout, interruptible
    /// by signals, or both.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyBarrier, WaitError};
    /// # use std::time::Duration;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let barrier = PyBarrier::new(2);
    /// let waited = barrier.wait_with(py, Duration::from_millis(1));
    /// assert!(matches!(waited, Err(WaitError::TimedOut)));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] if the interpreter is shutting down.
    ///
    /// The thread is not counted then, unless the last thread arrived while a signal handler ran.
    /// The exception is returned in that case too.
    #[track_caller]
    pub fn wait_with(
        &self,
        py: Python<'_>,
        wait: impl Into<Wait>,
    ) -> Result<PyBarrierWaitResult, WaitError> {
        self.wait_at(py, &wait.into(), Location::caller())
            .map_err(|failure| WaitError::new(py, failure))
    }

    fn wait_at(
        &self,
        py: Python<'_>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<PyBarrierWaitResult, Failure> {
        let wait = wait.started();
        let mut state = self.lock(py, &wait, caller)?;
        state.add();
        if state.waiting >= self.threads {
            state.waiting = 0;
            state.generation = state.generation.wrapping_add(1);
            self.all_arrived.notify_all();
            return Ok(PyBarrierWaitResult { is_leader: true });
        }
        let (generation, counted_in) = (state.generation, state.process);
        loop {
            let waited = self.all_arrived.wait_at(&mut state, &wait, KIND, caller);
            // A released guard does not give access to the state. No other thread can arrive then.
            let is_complete = Guard::is_held(&state) && state.generation != generation;
            match waited {
                Ok(()) | Err(Failure::TimedOut) if is_complete => {
                    return Ok(PyBarrierWaitResult { is_leader: false });
                }
                Ok(()) => {}
                Err(failure) => {
                    // A signal handler may have forked. Threads that arrived in the child are
                    // counted without this one.
                    if Guard::is_held(&state) && !is_complete && state.process == counted_in {
                        state.waiting -= 1;
                    }
                    return Err(failure);
                }
            }
        }
    }

    fn lock<'a>(
        &'a self,
        py: Python<'a>,
        wait: &Wait,
        caller: &'static Location<'static>,
    ) -> Result<PyMutexGuard<'a, State>, Failure> {
        // Only a fork outside of Python can leave the mutex locked: `os.fork` stops all threads
        // where they hold no such lock.
        // SAFETY:
        // - The data are integers, which are valid wherever the fork interrupted their owner.
        // - They are never lent.
        if unsafe { self.state.recover_abandoned(py) }.is_some() {
            self.state.clear_poison(py);
        }
        self.state.lock_at(py, wait, caller)
    }
}

impl fmt::Debug for PyBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyBarrier")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
