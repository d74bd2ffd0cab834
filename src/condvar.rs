//! [`PyCondvar`]: a condition variable whose waiters are detached.

use std::{
    fmt,
    panic::Location,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use pyo3::prelude::*;

use crate::{
    deadlock::{DeadlockError, LockKind},
    guard::Guard,
    mutex::PyMutexGuard,
    wait::{self, Holders, Patience, Refusal, Waiter, Word},
};

/// A condition variable: attached threads wait for a change to the data of a
/// [`PyMutex`](crate::PyMutex).
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::{PyCondvar, PyMutex};
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
///     /// Waits until there is something. Ctrl-C ends the wait.
///     fn get(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
///         let mut items = self.items.lock_interruptible(py)?;
///         self.added.wait_while_interruptible(&mut items, |items| items.is_empty())?;
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
/// | `wait_timeout` of `std` | [`wait_for`](Self::wait_for), as in parking_lot |
/// | `wait_timeout_while` of `std` | [`wait_while_for`](Self::wait_while_for) |
/// | results report poisoning | [`PyMutex::is_poisoned`](crate::PyMutex::is_poisoned) |
/// | `notify_*` of parking_lot return counts | not available: a woken thread may time out |
/// | guards of other locks | not available: see [`ext`](crate::ext) |
///
/// - A mapped guard cannot wait. Wait with the guard of all data, and map it afterwards.
/// - A guard that owns an [`Arc`](std::sync::Arc) cannot wait. Lock through the reference, which
///   [`ArcPyMutexGuard::unlock`](crate::ArcPyMutexGuard::unlock) returns.
/// - Waits with a timeout have no checked form, because they always end. They are not interruptible
///   by signals: see [`PyMutex::try_lock_until`](crate::PyMutex::try_lock_until).
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

/// A type indicating whether a timed wait returned because of the timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn new(timed_out: bool) -> Self {
        WaitTimeoutResult(timed_out)
    }

    /// Returns whether the timeout expired without a notification.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl PyCondvar {
    /// Creates a condition variable without waiters.
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
        self.wait_patiently(
            guard,
            Patience::Forever,
            LockKind::Condvar,
            Location::caller(),
        )
        .map_err(Refusal::into_deadlock)
    }

    /// Blocks until a notification. The wait is interruptible by signals.
    ///
    /// # Errors
    ///
    /// - The exception of a signal handler. The mutex is locked, as after a notification.
    /// - A [`DeadlockError`] where [`wait`](Self::wait) panics.
    #[track_caller]
    pub fn wait_interruptible<T: ?Sized>(&self, guard: &mut PyMutexGuard<'_, T>) -> PyResult<()> {
        Ok(self.wait_patiently(
            guard,
            Patience::Interruptible,
            LockKind::Condvar,
            Location::caller(),
        )?)
    }

    /// Blocks until a notification, for at most `limit`.
    ///
    /// Locking the mutex again may take longer.
    ///
    /// # Panics
    ///
    /// If the mutex cannot be locked again: see [Deadlocks](Self#deadlocks).
    #[track_caller]
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        limit: Duration,
    ) -> WaitTimeoutResult {
        let patience = Patience::for_duration(limit);
        in_time(self.wait_patiently(guard, patience, LockKind::Condvar, Location::caller()))
    }

    /// Blocks until a notification, or until the deadline `limit`.
    ///
    /// # Panics
    ///
    /// As [`wait_for`](Self::wait_for).
    #[track_caller]
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        limit: Instant,
    ) -> WaitTimeoutResult {
        in_time(self.wait_patiently(
            guard,
            Patience::Until(limit),
            LockKind::Condvar,
            Location::caller(),
        ))
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

    /// Blocks while `condition` holds. The wait is interruptible by signals.
    ///
    /// # Errors
    ///
    /// As [`wait_interruptible`](Self::wait_interruptible).
    #[track_caller]
    pub fn wait_while_interruptible<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> PyResult<()> {
        while condition(guard) {
            self.wait_interruptible(guard)?;
        }
        Ok(())
    }

    /// Blocks while `condition` holds, for at most `limit`.
    ///
    /// The result reports whether `condition` still held when the timeout expired.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyCondvar, PyMutex};
    /// # use std::time::Duration;
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let (jobs, changed) = (PyMutex::new(1), PyCondvar::new());
    /// let mut guard = jobs.lock(py);
    /// let result = changed.wait_while_for(&mut guard, |jobs| *jobs > 0, Duration::from_millis(1));
    /// assert!(result.timed_out());
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// As [`wait_for`](Self::wait_for), and if `condition` panics.
    #[track_caller]
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        limit: Duration,
    ) -> WaitTimeoutResult {
        // Computed once: the timeout covers all waits together.
        self.wait_while_in_time(guard, condition, Patience::for_duration(limit))
    }

    /// Blocks while `condition` holds, or until the deadline `limit`.
    ///
    /// # Panics
    ///
    /// As [`wait_while_for`](Self::wait_while_for).
    #[track_caller]
    pub fn wait_while_until<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        limit: Instant,
    ) -> WaitTimeoutResult {
        self.wait_while_in_time(guard, condition, Patience::Until(limit))
    }

    #[track_caller]
    fn wait_while_in_time<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        patience: Patience,
    ) -> WaitTimeoutResult {
        let asked_at = Location::caller();
        while condition(guard) {
            let waited = self.wait_patiently(guard, patience, LockKind::Condvar, asked_at);
            if in_time(waited).timed_out() {
                return WaitTimeoutResult(condition(guard));
            }
        }
        WaitTimeoutResult(false)
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
        wait::unpark_one(self.sequence.address(), || self.sequence.advance());
    }

    #[cold]
    fn wake_all(&self) {
        wait::unpark_all(self.sequence.address(), || self.sequence.advance());
    }

    #[inline(always)]
    fn has_waiting(&self) -> bool {
        // Relaxed: the mutex orders it. See the field.
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Blocks until a notification. `kind` is the primitive that errors name.
    pub(crate) fn wait_patiently<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        patience: Patience,
        kind: LockKind,
        asked_at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        Guard::assert_held(guard);
        // Both precede unlocking the mutex, so no notification is missed.
        let counted = Counted::new(&self.waiting);
        let before = self.sequence.load(Ordering::Relaxed);
        let (waited, locked_again) = Guard::wait_unlocked(guard, asked_at, |py| {
            let mut waiter = Waiter::new(&self.sequence, kind, patience, asked_at);
            waiter.wait_for(Holders::Anybody);
            // In a loop: a thread that polls for signals leaves the queue meanwhile. Relaxed: the
            // load is repeated under the lock of the queue. `PARKED` is not needed, because the
            // notifying thread always looks into the queue.
            let has_not_changed = || self.sequence.load(Ordering::Relaxed) == before;
            while has_not_changed() {
                waiter.sleep(py, self.sequence.address(), None, has_not_changed)?;
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
            Err(Refusal::Panicked(_)) => waited,
            _ => locked_again.and(waited),
        }
    }
}

/// Counts a thread as waiting until dropped.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the outcome of a wait with a timeout.
#[track_caller]
fn in_time(waited: Result<(), Refusal>) -> WaitTimeoutResult {
    match waited {
        Ok(()) => WaitTimeoutResult(false),
        Err(Refusal::TimedOut) => WaitTimeoutResult(true),
        // The timeout never expires, or the mutex could not be locked again.
        Err(refusal) => refusal.into_deadlock().panic(),
    }
}

impl Default for PyCondvar {
    fn default() -> Self {
        PyCondvar::new()
    }
}

impl fmt::Debug for PyCondvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyCondvar").finish_non_exhaustive()
    }
}
