//! [`PyCondvar`]: waiting, detached, until another thread says that something has changed.

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

/// A condition variable: attached threads wait for a change to the data of a [`PyMutex`](crate::PyMutex).
///
/// As [`std::sync::Condvar`], but with our mutex, and detached while it waits. The mutex is unlocked meanwhile and locked again, by the
/// attached thread, before any of the methods returns, with an error too. Any thread may notify, attached or not.
///
/// A wait may also end for no reason. Wait in a loop, or with the `_while` forms, until what is waited for has come true.
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
/// # Deadlocks
///
/// A thread that waits to be notified waits for nobody in particular, so that is no part of a cycle that could be reported. Two things are:
/// that the interpreter is shutting down, when no other thread can lock the mutex any more, and so change anything that the thread could
/// wait for (detached threads can still notify, but that is all they can do); and that the mutex cannot be locked again. In the second
/// case the guard is *disarmed*: it unlocks nothing when it is dropped, and using it panics. A notification that the
/// thread had got is passed on.
///
/// # Several mutexes
///
/// Threads may wait on one condition variable with different mutexes, at the same time too. `std`'s
/// condition variable may panic then, and `parking_lot`'s does. [`notify_one`](Self::notify_one)
/// ends the wait of the thread that has waited longest, whichever mutex it waits with, so use
/// [`notify_all`](Self::notify_all) if the threads wait for different conditions.
///
/// # Not here
///
/// - `wait` with a guard of a part of the data: wait with the guard of all of it, and map it afterwards. Nor with a guard that owns an
///   [`Arc`](std::sync::Arc): lock through the reference, which [`ArcPyMutexGuard::unlock`](crate::ArcPyMutexGuard::unlock) gives back.
/// - Waiting with the guard of another lock ([`PyRwLock`](crate::PyRwLock), or those of `std` and `parking_lot`, which have condition
///   variables of their own; attached threads wait for those with [`ext`](crate::ext)).
/// - `std`'s `wait_timeout` and `wait_timeout_while` are [`wait_for`](Self::wait_for) and [`wait_while_for`](Self::wait_while_for), as in
///   `parking_lot`. They have no checked forms: such a wait ends by itself, and only the mutex may be impossible to lock again.
///   Nor do they look for signals, as told at [`PyMutex`](crate::PyMutex#not-here).
/// - `std`'s results tell of poison: ask [`PyMutex::is_poisoned`](crate::PyMutex::is_poisoned).
/// - `parking_lot`'s `notify_one` and `notify_all` tell how many threads they woke: who is woken may be one that has just given
///   up, so that nothing follows from the number.
pub struct PyCondvar {
    /// How many threads wait, or are about to: notifying nobody costs a look at this.
    ///
    /// Incremented under the mutex of the thread that begins to wait, so whoever locks that mutex later, changes
    /// something, and notifies, sees it.
    waiting: AtomicU32,
    /// Another number after each notification. Changed under the lock of its queue, so that a thread that is on its way into the
    /// queue notices.
    sequence: Word,
}

/// Whether a wait ended because its time was up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn new(timed_out: bool) -> Self {
        WaitTimeoutResult(timed_out)
    }

    /// Whether the time was up before there was a notification.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl PyCondvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Self {
        PyCondvar {
            waiting: AtomicU32::new(0),
            sequence: Word::new(0),
        }
    }

    /// Waits until there is a notification, with the mutex unlocked.
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
    /// If the wait could never end, [see above](Self#deadlocks).
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut PyMutexGuard<'_, T>) {
        self.wait_checked(guard)
            .unwrap_or_else(|error| error.panic());
    }

    /// [`wait`](Self::wait), with an error where that panics.
    ///
    /// # Errors
    ///
    /// A [`DeadlockError`] if the wait could never end, [see above](Self#deadlocks).
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

    /// [`wait`](Self::wait), and lets Ctrl-C end the wait, as
    /// [`PyMutex::lock_interruptible`](crate::PyMutex::lock_interruptible).
    ///
    /// # Errors
    ///
    /// What a signal handler raised, or a [`DeadlockError`] where [`wait`](Self::wait) panics. After the exception of a signal handler
    /// the mutex is locked, as after a notification.
    #[track_caller]
    pub fn wait_interruptible<T: ?Sized>(&self, guard: &mut PyMutexGuard<'_, T>) -> PyResult<()> {
        Ok(self.wait_patiently(
            guard,
            Patience::Interruptible,
            LockKind::Condvar,
            Location::caller(),
        )?)
    }

    /// Waits until there is a notification, at most for that long.
    ///
    /// The mutex is locked again in any case, for which it may have to wait longer.
    ///
    /// # Panics
    ///
    /// If the mutex cannot be locked again, [see above](Self#deadlocks).
    #[track_caller]
    pub fn wait_for<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        limit: Duration,
    ) -> WaitTimeoutResult {
        let patience = Patience::for_duration(limit);
        in_time(self.wait_patiently(guard, patience, LockKind::Condvar, Location::caller()))
    }

    /// Waits until there is a notification, at most until `limit`, as [`wait_for`](Self::wait_for).
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

    /// Waits for as long as `condition` holds. It is asked with the mutex locked, once before the first wait and after each
    /// notification.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait), and if `condition` does.
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

    /// [`wait_while`](Self::wait_while), with an error where that panics because of a deadlock.
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

    /// [`wait_while`](Self::wait_while), and lets Ctrl-C end the wait.
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

    /// [`wait_while`](Self::wait_while), at most for that long. The result tells whether `condition` still held when the time was up.
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
    /// As [`wait_for`](Self::wait_for), and if `condition` does.
    #[track_caller]
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        limit: Duration,
    ) -> WaitTimeoutResult {
        // Once: the limit is for all waits together.
        self.wait_while_in_time(guard, condition, Patience::for_duration(limit))
    }

    /// [`wait_while`](Self::wait_while), at most until `limit`, as [`wait_while_for`](Self::wait_while_for).
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

    /// Ends the wait of one thread, of those that wait now the one that has waited longest.
    ///
    /// Whoever notifies without having locked the mutex since the change may be too early: a thread that has seen the old data, and
    /// not begun to wait yet, does not hear it.
    #[inline]
    pub fn notify_one(&self) {
        if self.has_waiting() {
            self.wake_one();
        }
    }

    /// Ends the waits of all threads that wait now.
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
        // Relaxed: the mutex orders it, as told at the field.
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// `kind` is what the author of the call knows this as.
    pub(crate) fn wait_patiently<T: ?Sized>(
        &self,
        guard: &mut PyMutexGuard<'_, T>,
        patience: Patience,
        kind: LockKind,
        asked_at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        Guard::assert_held(guard);
        // Both before the mutex is unlocked.
        let counted = Counted::new(&self.waiting);
        let before = self.sequence.load(Ordering::Relaxed);
        let (waited, locked_again) = Guard::wait_unlocked(guard, asked_at, |py| {
            let mut waiter = Waiter::new(&self.sequence, kind, patience, asked_at);
            waiter.wait_for(Holders::Anybody);
            // Not only until it is woken: a thread that looks for signals now and then is out of the queue meanwhile.
            // Relaxed: what matters is that it is read again under the lock of the queue. No mark is needed: whoever notifies looks there.
            let has_not_changed = || self.sequence.load(Ordering::Relaxed) == before;
            while has_not_changed() {
                waiter.sleep(py, self.sequence.address(), None, has_not_changed)?;
            }
            Ok(())
        });
        drop(counted);
        if locked_again.is_err() && waited.is_ok() {
            // Whoever notified wanted a thread to go on, and this one will not.
            self.notify_one();
        }
        match waited {
            // Using the guard panics anyway; the panic of the handler would be lost.
            Err(Refusal::Panicked(_)) => waited,
            _ => locked_again.and(waited),
        }
    }
}

/// That a thread is counted, until this is dropped.
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

/// The outcome of a wait with a limit.
#[track_caller]
fn in_time(waited: Result<(), Refusal>) -> WaitTimeoutResult {
    match waited {
        Ok(()) => WaitTimeoutResult(false),
        Err(Refusal::TimedOut) => WaitTimeoutResult(true),
        // The limit was none, or the mutex could not be locked again.
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
