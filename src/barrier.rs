//! [`PyBarrier`]: a meeting point of attached threads.

use std::fmt;

use pyo3::prelude::*;

use crate::{DeadlockError, PyCondvar, PyMutex, PyMutexGuard};

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
        match self.wait_checked(py) {
            Ok(result) => result,
            Err(error) => error.panic(),
        }
    }

    /// [`wait`](Self::wait), with an error where that panics.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`] while the interpreter is shutting down.
    #[track_caller]
    pub fn wait_checked(&self, py: Python<'_>) -> Result<PyBarrierWaitResult, DeadlockError> {
        let state = self.state.lock_checked(py)?;
        self.wait_with(state, |state| self.complete.wait_checked(state))
    }

    /// [`wait`](Self::wait), and lets Ctrl-C end the wait.
    ///
    /// # Errors
    ///
    /// What a signal handler raised, or a [`DeadlockError`] where [`wait`](Self::wait) panics. The thread does not count as having
    /// come then.
    #[track_caller]
    pub fn wait_interruptible(&self, py: Python<'_>) -> PyResult<PyBarrierWaitResult> {
        let state = self.state.lock_interruptible(py)?;
        self.wait_with(state, |state| self.complete.wait_interruptible(state))
    }

    #[track_caller]
    fn wait_with<'a, E>(
        &self,
        mut state: PyMutexGuard<'a, State>,
        mut wait: impl FnMut(&mut PyMutexGuard<'a, State>) -> Result<(), E>,
    ) -> Result<PyBarrierWaitResult, E> {
        state.waiting += 1;
        if state.waiting >= self.threads {
            state.waiting = 0;
            state.generation = state.generation.wrapping_add(1);
            self.complete.notify_all();
            return Ok(PyBarrierWaitResult { is_leader: true });
        }
        let generation = state.generation;
        while state.generation == generation {
            if let Err(error) = wait(&mut state) {
                // With a disarmed guard nothing can be said of the state; nobody else can come then.
                if !state.is_disarmed() && state.generation == generation {
                    state.waiting -= 1;
                }
                return Err(error);
            }
        }
        Ok(PyBarrierWaitResult { is_leader: false })
    }
}

impl fmt::Debug for PyBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyBarrier")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
