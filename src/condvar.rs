//! [`PyCondvar`]: a condition variable whose waiters are detached.

use std::{
    fmt,
    panic::Location,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    error::{DeadlockError, WaitError},
    guard::Guard,
    mutex::PyMutexGuard,
    wait::{self, Failure, Holders, LockKind, Role, Wait, Waiter, Word},
};

const KIND: &LockKind = &LockKind {
    name: "PyCondvar",
    role: Role::Notification,
};

/// A condition variable: attached threads wait for a change to the data of a
/// [`PyMutex`](crate::PyMutex).
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::{PyCondvar, PyMutex, Wait};
/// use std::collections::VecDeque;
///
/// /// A queue between Python threads.
/// #[pyclass(frozen)]
/// struct Queue {
///     items: PyMutex<VecDeque<Py<PyAny>>>,
///     added: PyCondvar,
/// }
///
/// #[pymethods]
/// impl Queue {
///     fn put(&self, py: Python<'_>, item: Py<PyAny>) {
///         self.items.lock(py).push_back(item);
///         self.added.notify_one();
///     }
///
///     /// Blocks until the queue has an item. Ctrl-C interrupts the wait.
///     fn get(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
///         let wait = Wait::new().interruptible();
///         let mut items = self.items.lock_with(py, wait)?;
///         self.added.wait_while_with(&mut items, |items| items.is_empty(), wait)?;
///         Ok(items.pop_front().expect("it is not empty"))
///     }
/// }
/// # Python::initialize();
/// # Python::attach(|py| {
/// #     let queue = Queue { items: PyMutex::default(), added: PyCondvar::new() };
/// #     queue.put(py, py.None());
/// #     assert!(queue.get(py).unwrap().is_none(py));
/// # });
/// ```
///
/// A waiting thread is detached, and the mutex is unlocked. Every method locks the mutex again
/// before it returns, also with an error. Any thread may notify, attached or not.
///
/// Spurious wakeups are possible. Wait in a loop, or with the `_while` methods.
///
/// # Deadlocks
///
/// Any thread may notify, so a wait for a notification is part of no cycle. Two deadlocks are
/// reported:
///
/// - The interpreter is shutting down. No other thread can lock the mutex any more and change the
///   condition.
/// - The mutex cannot be locked again. The guard then holds nothing: dropping it unlocks nothing,
///   and using it panics. A received notification is passed on.
///
/// # Several mutexes
///
/// Threads may wait on one condition variable with different mutexes, also at the same time. The
/// condition variable of `std` may panic then, and that of `parking_lot` does.
/// [`notify_one`](Self::notify_one) ends the wait of the thread that has waited longest, whichever
/// mutex it uses. Use [`notify_all`](Self::notify_all) if the threads wait for different
/// conditions.
///
/// # Differences from `std` and parking_lot
///
/// | elsewhere | here |
/// |---|---|
/// | `wait_timeout` of `std`, `wait_for` of parking_lot | [`wait_with`](Self::wait_with) |
/// | `wait_timeout_while` of `std` | [`wait_while_with`](Self::wait_while_with) |
/// | results report poisoning | [`PyMutex::is_poisoned`](crate::PyMutex::is_poisoned) |
/// | `notify_*` of parking_lot return counts | not available: a woken thread may time out |
/// | guards of other locks | not available: see [`ext`](crate::ext) |
///
/// - A mapped guard cannot wait. Wait with the guard of all data, and map it afterwards.
/// - A guard that owns an [`Arc`](std::sync::Arc) cannot wait. Lock through the reference, which
///   [`ArcPyMutexGuard::unlock`](crate::ArcPyMutexGuard::unlock) returns.
pub struct PyCondvar {
    /// Number of threads that wait or are about to. If it is 0, notifying costs one load.
    ///
    /// Incremented under the mutex of the waiter. A thread that locks this mutex later and then
    /// notifies sees it.
    waiting: AtomicU32,
    /// Changed by each notification, under the lock of the queue: a thread that is entering the
    /// queue notices.
    sequence: Word,
}

impl PyCondvar {
    /// Creates a condition variable without waiters.
    #[track_caller]
    pub const fn new() -> Self {
        PyCondvar {
            waiting: AtomicU32::new(0),
            sequence: Word::new(0),
        }
    }

    /// Blocks until a notification, with the mutex unlocked.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyCondvar, PyMutex};
    /// static READY: PyMutex<bool> = PyMutex::new(false);
    /// static CHANGED: PyCondvar = PyCondvar::new();
    ///
    /// fn wait_until_ready(py: Python<'_>) {
    ///     let mut ready = READY.lock(py);
    ///     while !*ready {
    ///         CHANGED.wait(&mut ready);
    ///     }
    /// }
    /// # Python::initialize();
    /// # Python::attach(|py| { *READY.lock(py) = true; wait_until_ready(py) });
    /// ```
    ///
    /// # Panics
    ///
    /// If the wait could never end: see [Deadlocks](Self#deadlocks).
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut PyMutexGuard<'_, T>) {
        self.wait_checked(guard)
            .unwrap_or_else(|error| error.panic());
    }

    /// Blocks until a notification, or returns an error if the wait could never end.
    ///
    /// # Errors
    ///
    /// Returns a [`DeadlockError`]: see [Deadlocks](Self#deadlocks).
    #[track_caller]
    pub fn wait_checked<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
    ) -> Result<(), DeadlockError> {
        let py = Guard::py(guard);
        self.wait_at(guard, &Wait::FOREVER, KIND, Location::caller())
            .map_err(|failure| DeadlockError::new(py, failure))
    }

    /// Blocks until a notification, waiting as `wait` says: with a timeout, interruptible by
    /// signals, or both.
    ///
    /// The mutex is locked again afterwards, which may take longer than the timeout.
    ///
    /// # Errors
    ///
    /// - [`WaitError::TimedOut`] if the timeout or deadline expires first.
    /// - [`WaitError::Interrupted`] with the exception of a signal handler.
    /// - [`WaitError::Deadlock`] where [`wait`](Self::wait) panics. With a timeout, only if the
    ///   mutex cannot be locked again.
    #[track_caller]
    pub fn wait_with<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        wait: impl Into<Wait>,
    ) -> Result<(), WaitError> {
        let py = Guard::py(guard);
        self.wait_at(guard, &wait.into(), KIND, Location::caller())
            .map_err(|failure| WaitError::new(py, failure))
    }

    /// Blocks while `condition` returns `true`.
    ///
    /// `condition` is called with the mutex locked, before the first wait and after each
    /// notification.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait), and if `condition` panics.
    #[track_caller]
    pub fn wait_while<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        while condition(guard) {
            self.wait(guard);
        }
    }

    /// Blocks while `condition` holds, or returns an error if the wait could never end.
    ///
    /// # Errors
    ///
    /// As [`wait_checked`](Self::wait_checked).
    #[track_caller]
    pub fn wait_while_checked<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(), DeadlockError> {
        while condition(guard) {
            self.wait_checked(guard)?;
        }
        Ok(())
    }

    /// Blocks while `condition` holds, waiting as `wait` says: with a timeout, interruptible by
    /// signals, or both.
    ///
    /// The timeout covers all waits together. When it expires, `condition` is checked once more.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyCondvar, PyMutex, WaitError};
    /// # use std::time::Duration;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let (jobs, changed) = (PyMutex::new(1), PyCondvar::new());
    /// let mut guard = jobs.lock(py);
    /// let timeout = Duration::from_millis(1);
    /// let waited = changed.wait_while_with(&mut guard, |jobs| *jobs > 0, timeout);
    /// assert!(matches!(waited, Err(WaitError::TimedOut)));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait_with`](Self::wait_with). [`WaitError::TimedOut`] if `condition` still holds.
    ///
    /// # Panics
    ///
    /// Panics if `condition` panics.
    #[track_caller]
    pub fn wait_while_with<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        wait: impl Into<Wait>,
    ) -> Result<(), WaitError> {
        let wait = wait.into().started();
        while condition(guard) {
            match self.wait_with(guard, wait) {
                Err(WaitError::TimedOut) if !condition(guard) => break,
                waited => waited?,
            }
        }
        Ok(())
    }

    /// Ends the wait of the thread that has waited longest.
    ///
    /// Lock the mutex between changing the data and notifying. Otherwise a thread that has read the
    /// old data and does not wait yet misses the notification.
    #[inline]
    pub fn notify_one(&self) {
        if self.has_waiting() {
            self.wake_one();
        }
    }

    /// Ends the waits of all waiting threads.
    #[inline]
    pub fn notify_all(&self) {
        if self.has_waiting() {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_one(&self) {
        wait::unpark_one(self.sequence.address(), || self.sequence.bump_sequence());
    }

    #[cold]
    fn wake_all(&self) {
        wait::unpark_all(self.sequence.address(), || self.sequence.bump_sequence());
    }

    #[inline(always)]
    fn has_waiting(&self) -> bool {
        // Relaxed: the mutex orders it. See the field.
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Blocks until a notification. `kind` is the primitive that errors name.
    pub(crate) fn wait_at<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        wait: &Wait,
        kind: &'static LockKind,
        caller: &'static Location<'static>,
    ) -> Result<(), Failure> {
        Guard::assert_held(guard);
        // Both precede unlocking the mutex, so no notification is missed.
        let counted = WaiterCount::new(&self.waiting);
        let before = self.sequence.load(Ordering::Relaxed);
        let (waited, locked_again) = Guard::wait_unlocked(guard, caller, |py| {
            let mut waiter = Waiter::new(&self.sequence, kind, wait, caller);
            waiter.set_holders(Holders::Unknown);
            // In a loop: a thread that polls for signals leaves the queue meanwhile. Relaxed: the
            // load is repeated under the lock of the queue. `PARKED` is not needed, because the
            // notifying thread always looks into the queue.
            let has_not_changed = || self.sequence.load(Ordering::Relaxed) == before;
            while has_not_changed() {
                waiter.park(py, self.sequence.address(), None, has_not_changed)?;
            }
            Ok(())
        });
        drop(counted);
        if locked_again.is_err() && waited.is_ok() {
            // This thread returns an error, so the notification belongs to another waiter.
            self.notify_one();
        }
        match waited {
            // Using the guard panics anyway; the panic of the handler would be lost.
            Err(Failure::Panicked(_)) => waited,
            _ => locked_again.and(waited),
        }
    }
}

/// Counts a thread as waiting until dropped.
struct WaiterCount<'a>(&'a AtomicU32);

impl<'a> WaiterCount<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        WaiterCount(count)
    }
}

impl Drop for WaiterCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for PyCondvar {
    #[track_caller]
    fn default() -> Self {
        PyCondvar::new()
    }
}

impl fmt::Debug for PyCondvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyCondvar").finish_non_exhaustive()
    }
}
