//! [`CondvarExt`] for [`std::sync::Condvar`].

use std::{
    cell::Cell,
    sync::{Condvar, LockResult, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use pyo3::Python;

use super::{MutexExt, detach_unchecked, sealed::Sealed};

/// A type indicating whether a timed wait returned because of the timeout.
///
/// As [`std::sync::WaitTimeoutResult`], which only `std` can create.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Returns whether the timeout expired without a notification.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// Waits on a condition variable from an attached thread, detaching while it blocks.
///
/// The methods are those of [`Condvar`] with one more parameter: the mutex that `guard` locks. The
/// thread attaches after the wait, then locks the mutex again. Another thread may lock the mutex in
/// between and invalidate the condition, so check the condition in a loop, or use the `_while`
/// methods.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::{CondvarExt, MutexExt};
/// use std::sync::{Condvar, Mutex};
///
/// /// Produced by a Rust thread, consumed by Python.
/// #[derive(Default)]
/// struct Results {
///     list: Mutex<Vec<u64>>,
///     added: Condvar,
/// }
///
/// impl Results {
///     fn next(&self, py: Python<'_>) -> u64 {
///         let list = self.list.lock_attached(py).unwrap();
///         let is_empty = |list: &mut Vec<u64>| list.is_empty();
///         let mut list = self.added.wait_while_attached(py, &self.list, list, is_empty).unwrap();
///         list.pop().unwrap()
///     }
/// }
/// # Python::initialize();
/// # let results = Results::default();
/// # Python::attach(|py| {
/// #     std::thread::scope(|scope| {
/// #         scope.spawn(|| { results.list.lock().unwrap().push(7); results.added.notify_one(); });
/// #         assert_eq!(results.next(py), 7);
/// #     });
/// # });
/// ```
///
/// # Errors
///
/// All methods return an error if the mutex is poisoned, as those of [`Condvar`] do.
///
/// # Panics
///
/// All methods panic where those of [`Condvar`] do. They also panic, after the wait, if `guard`
/// does not belong to `mutex`. Both mutexes are then unlocked, and neither is poisoned.
pub trait CondvarExt: Sealed {
    /// Waits as [`Condvar::wait`] does, detached.
    fn wait_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>>;

    /// Waits as [`Condvar::wait_while`] does, detached. Calls `condition` attached.
    fn wait_while_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>>;

    /// Waits as [`Condvar::wait_timeout`] does, detached.
    ///
    /// The timeout does not cover attaching and locking the mutex again.
    fn wait_timeout_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;

    /// Waits as [`Condvar::wait_timeout_while`] does, detached. Calls `condition` attached.
    ///
    /// The result is a timeout if `condition` still returned `true` when the timeout expired.
    fn wait_timeout_while_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;
}

impl Sealed for Condvar {}

impl CondvarExt for Condvar {
    fn wait_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        wait_and_lock(py, mutex, guard, |guard| drop(self.wait(guard)))
    }

    fn wait_while_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait_attached(py, mutex, guard)?;
        }
        Ok(guard)
    }

    fn wait_timeout_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let timed_out = Cell::new(false);
        let locked = wait_and_lock(py, mutex, guard, |guard| {
            let (_guard, result) = self
                .wait_timeout(guard, timeout)
                .unwrap_or_else(PoisonError::into_inner);
            timed_out.set(result.timed_out());
        });
        with_result(locked, WaitTimeoutResult(timed_out.get()))
    }

    fn wait_timeout_while_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let start = Instant::now();
        while condition(&mut guard) {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            (guard, _) = self.wait_timeout_attached(py, mutex, guard, left)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }
}

/// Calls `wait` detached, then locks the mutex again, attached. `wait` must unlock its guard.
fn wait_and_lock<'a, T>(
    py: Python<'_>,
    mutex: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    wait: impl Fn(MutexGuard<'a, T>),
) -> LockResult<MutexGuard<'a, T>> {
    let data = data_of(&guard);
    let guard = Cell::new(Some(guard));
    detach_unchecked(py, &|| wait(guard.take().expect("this runs once")));
    let locked = mutex.lock_attached(py);
    let same = match &locked {
        Ok(guard) => data_of(guard) == data,
        Err(poisoned) => data_of(poisoned.get_ref()) == data,
    };
    if !same {
        // Unlocked before the panic, which would poison a mutex that is not at fault.
        drop(locked);
        panic!(
            "wait_attached was given a guard of one mutex and a reference to another: \
             pass the mutex that the guard came from"
        );
    }
    locked
}

/// Returns the address of the data, which identifies the mutex.
fn data_of<T>(guard: &MutexGuard<'_, T>) -> *const () {
    (&raw const **guard).cast()
}

/// Adds `result` to the guard, whether or not the mutex is poisoned.
fn with_result<Guard, R>(locked: LockResult<Guard>, result: R) -> LockResult<(Guard, R)> {
    match locked {
        Ok(guard) => Ok((guard, result)),
        Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), result))),
    }
}
