//! [`Wait`]: the conditions that end a wait early.

use std::time::{Duration, Instant};

/// Options for a blocking wait: a timeout or deadline, and whether signals interrupt it.
///
/// Methods such as [`PyMutex::lock_with`](crate::PyMutex::lock_with) accept everything that
/// converts to a `Wait`:
///
/// | argument | the wait fails with |
/// |---|---|
/// | [`Wait::new()`](Wait::new) | [`Deadlock`] if it could never end |
/// | a [`Duration`] | [`TimedOut`] when it expires |
/// | an [`Instant`] | [`TimedOut`] at the deadline |
/// | an [`Option<Duration>`] | as its timeout, or as [`Wait::new()`](Wait::new) for `None` |
/// | [`Wait::new().interruptible()`](Wait::interruptible) | [`Deadlock`] or [`Interrupted`] |
///
/// Functions that Python code calls should be interruptible, with or without a timeout:
///
/// ```
/// use pyo3::{exceptions::PyTimeoutError, prelude::*};
/// use pyo3_sync::{PyCondvar, PyMutex, Wait};
/// use std::{collections::VecDeque, time::Duration};
///
/// #[pyclass(frozen)]
/// struct Queue {
///     items: PyMutex<VecDeque<Py<PyAny>>>,
///     added: PyCondvar,
/// }
///
/// #[pymethods]
/// impl Queue {
///     /// Raises `TimeoutError` after `timeout`, and `KeyboardInterrupt` on Ctrl-C.
///     #[pyo3(signature = (timeout=None))]
///     fn get(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Py<PyAny>> {
///         let wait = Wait::from(timeout).interruptible().started();
///         let mut items = self.items.lock_with(py, wait)?;
///         self.added.wait_while_with(&mut items, |items| items.is_empty(), wait)?;
///         Ok(items.pop_front().expect("the condition holds"))
///     }
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     let queue = Queue { items: PyMutex::default(), added: PyCondvar::new() };
/// #     let error = queue.get(py, Some(Duration::from_millis(1))).unwrap_err();
/// #     assert!(error.is_instance_of::<PyTimeoutError>(py));
/// # });
/// ```
///
/// # Deadlocks
///
/// A wait with a timeout or deadline ends anyway. It is not reported as a deadlock, and neither is
/// a cycle that it is part of. There are two exceptions. A timeout that [`Instant`] cannot
/// represent counts as none. A [`PyCondvar`](crate::PyCondvar) reports that it cannot lock its
/// mutex again.
///
/// # Signals
///
/// As in `threading.Lock.acquire`, only the main thread of Python runs signal handlers. It polls
/// for signals every 50 ms while it waits. On other threads an interruptible wait is an ordinary
/// one. If a signal handler calls Rust code that panics, the panic is resumed after the method has
/// cleaned up as for an exception.
///
/// [`Deadlock`]: crate::WaitError::Deadlock
/// [`TimedOut`]: crate::WaitError::TimedOut
/// [`Interrupted`]: crate::WaitError::Interrupted
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "a `Wait` does nothing until it is passed to a method that waits"]
pub struct Wait {
    expiry: Expiry,
    interruptible: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Expiry {
    #[default]
    Never,
    After(Duration),
    At(Instant),
}

impl Wait {
    /// A constant, so that a reference to it costs a fast path nothing.
    pub(crate) const FOREVER: Wait = Wait::new();

    /// Creates a wait without a timeout that signals do not interrupt.
    pub const fn new() -> Self {
        Wait {
            expiry: Expiry::Never,
            interruptible: false,
        }
    }

    /// Sets a timeout, which begins when the wait does. Replaces a deadline.
    ///
    /// Timeouts never fire early. A timeout whose deadline [`Instant`] cannot represent never
    /// expires.
    pub const fn timeout(self, timeout: Duration) -> Self {
        Wait {
            expiry: Expiry::After(timeout),
            ..self
        }
    }

    /// Sets a deadline. Replaces a timeout.
    pub const fn deadline(self, deadline: Instant) -> Self {
        Wait {
            expiry: Expiry::At(deadline),
            ..self
        }
    }

    /// Lets Python signal handlers interrupt the wait: see [Signals](Self#signals).
    pub const fn interruptible(self) -> Self {
        Wait {
            interruptible: true,
            ..self
        }
    }

    /// Converts the timeout to a deadline, starting now.
    ///
    /// Use this for several waits that share one timeout.
    pub fn started(self) -> Self {
        let expiry = match self.expiry {
            Expiry::After(timeout) => {
                let deadline = Instant::now().checked_add(timeout);
                deadline.map_or(Expiry::Never, Expiry::At)
            }
            expiry => expiry,
        };
        Wait { expiry, ..self }
    }

    /// Returns the deadline of a [started](Self::started) wait.
    pub(super) fn get_deadline(self) -> Option<Instant> {
        match self.expiry {
            Expiry::At(deadline) => Some(deadline),
            Expiry::Never | Expiry::After(_) => None,
        }
    }

    pub(super) fn is_interruptible(self) -> bool {
        self.interruptible
    }
}

impl From<Duration> for Wait {
    fn from(timeout: Duration) -> Self {
        Wait::new().timeout(timeout)
    }
}

impl From<Option<Duration>> for Wait {
    fn from(timeout: Option<Duration>) -> Self {
        timeout.map_or(Wait::new(), Wait::from)
    }
}

impl From<Instant> for Wait {
    fn from(deadline: Instant) -> Self {
        Wait::new().deadline(deadline)
    }
}
