//! [`CondvarExt`] for [`std::sync::Condvar`].

use std::{
    cell::Cell,
    sync::{Condvar, LockResult, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use pyo3::Python;

use super::{MutexExt, detached, sealed::Sealed};
use crate::WaitTimeoutResult;

/// Waits for a change that another thread makes, attached or not, without keeping the interpreter from it; for attached threads.
///
/// The methods are those of [`Condvar`], detached while they wait, and with one parameter more: the mutex that `guard` came from, which
/// is locked again after having attached. In between others may have had it, so that what the notification told of may be over;
/// use a loop, as always, or the `_while` forms.
///
/// ```
/// use pyo3::prelude::*;
/// use pyo3_sync::ext::{CondvarExt, MutexExt};
/// use std::sync::{Condvar, Mutex};
///
/// /// Filled by a Rust thread, emptied by Python.
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
/// Of all methods: as those of [`Condvar`], if the mutex is poisoned.
///
/// # Panics
///
/// All methods, as those of [`Condvar`]; and if `guard` is not of `mutex`, after they have waited. Both mutexes are unlocked then, and
/// neither is poisoned.
pub trait CondvarExt: Sealed {
    /// [`Condvar::wait`], detached.
    fn wait_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>>;

    /// [`Condvar::wait_while`], detached while it waits; `condition` is asked attached.
    fn wait_while_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>>;

    /// [`Condvar::wait_timeout`], detached. It may take longer to attach and lock the mutex.
    fn wait_timeout_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;

    /// [`Condvar::wait_timeout_while`], detached while it waits; `condition` is asked attached. The result tells whether it still held
    /// when the time was up.
    fn wait_timeout_while_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        limit: Duration,
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
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let timed_out = Cell::new(false);
        let locked = wait_and_lock(py, mutex, guard, |guard| {
            let (_guard, result) = self
                .wait_timeout(guard, limit)
                .unwrap_or_else(PoisonError::into_inner);
            timed_out.set(result.timed_out());
        });
        with_result(locked, WaitTimeoutResult::new(timed_out.get()))
    }

    fn wait_timeout_while_attached<'a, T>(
        &self,
        py: Python<'_>,
        mutex: &'a Mutex<T>,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let start = Instant::now();
        while condition(&mut guard) {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok((guard, WaitTimeoutResult::new(true)));
            }
            (guard, _) = self.wait_timeout_attached(py, mutex, guard, left)?;
        }
        Ok((guard, WaitTimeoutResult::new(false)))
    }
}

/// Detaches, gives `guard` to `wait`, which waits with it and unlocks, and locks the mutex again, attached.
fn wait_and_lock<'a, T>(
    py: Python<'_>,
    mutex: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    wait: impl Fn(MutexGuard<'a, T>),
) -> LockResult<MutexGuard<'a, T>> {
    let data = data_of(&guard);
    let guard = Cell::new(Some(guard));
    detached(py, &|| wait(guard.take().expect("this runs once")));
    let locked = mutex.lock_attached(py);
    let same = match &locked {
        Ok(guard) => data_of(guard) == data,
        Err(poisoned) => data_of(poisoned.get_ref()) == data,
    };
    if !same {
        // Before the panic, which would poison that mutex for the mistake of this caller.
        drop(locked);
        panic!(
            "wait_attached was given a guard of one mutex and a reference to another: pass the mutex that the guard came from"
        );
    }
    locked
}

/// Where the data are: which mutex it is.
fn data_of<T>(guard: &MutexGuard<'_, T>) -> *const () {
    (&raw const **guard).cast()
}

fn with_result<Guard, R>(locked: LockResult<Guard>, result: R) -> LockResult<(Guard, R)> {
    match locked {
        Ok(guard) => Ok((guard, result)),
        Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), result))),
    }
}
