//! The guards of [`PyMutex`].

use std::{panic::Location, ptr::NonNull, sync::Arc};

use pyo3::Python;

use super::{PyMutex, raw::RawMutex};
use crate::{
    guard::{ArcGuard, Exclusive, ExclusiveMode, Guard, Locked, Mode, Part, PoisonOnPanic},
    wait::{Failure, Wait},
};

/// A locked [`PyMutex`]. The mutex is unlocked when the guard is dropped.
pub type PyMutexGuard<'a, T> = Guard<'a, Locked, Exclusive<T>>;

/// A locked [`PyMutex`], with access to a part of its data: see [`PyMutexGuard::map`].
///
/// It has no `unlocked`: the part may not exist any more afterwards.
pub type MappedPyMutexGuard<'a, T> = Guard<'a, Locked, Exclusive<T>, Part>;

/// A locked [`PyMutex`] in an [`Arc`](std::sync::Arc): see [`PyMutex::lock_arc`].
pub type ArcPyMutexGuard<'py, T> = ArcGuard<'py, Locked, T>;

// SAFETY: only the owner of the mutex has a reference to the data. The collector makes none while
// the mutex has an owner.
unsafe impl Mode for Locked {
    type Lock<T: ?Sized> = PyMutex<T>;
    type Raw = RawMutex;
    type Hold = PoisonOnPanic;

    #[inline(always)]
    fn raw<T: ?Sized>(lock: &PyMutex<T>) -> &RawMutex {
        &lock.raw
    }

    #[inline(always)]
    fn data<T: ?Sized>(lock: &PyMutex<T>) -> NonNull<T> {
        // SAFETY: the pointer comes from a reference.
        unsafe { NonNull::new_unchecked(lock.data.get()) }
    }

    #[inline]
    fn acquire(
        raw: &RawMutex,
        py: Python<'_>,
        caller: &'static Location<'static>,
    ) -> Result<PoisonOnPanic, Failure> {
        raw.lock(py, &Wait::FOREVER, caller)?;
        Ok(PoisonOnPanic::new())
    }

    #[inline]
    unsafe fn release(raw: &RawMutex, py: Python<'_>, hold: PoisonOnPanic) {
        // SAFETY: guaranteed by the caller.
        unsafe { raw.unlock_poisoning(py, hold.was_panicking) }
    }
}

// SAFETY: only the owner of the mutex has a reference to the data.
unsafe impl ExclusiveMode for Locked {}

impl<T: ?Sized> PyMutexGuard<'_, T> {
    /// Converts the guard to one that owns a reference to the mutex.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{ArcPyMutexGuard, PyMutex, PyMutexGuard, WaitError};
    /// # use std::{sync::Arc, time::Duration};
    /// fn lock<'py>(
    ///     py: Python<'py>,
    ///     mutex: &Arc<PyMutex<u64>>,
    /// ) -> Result<ArcPyMutexGuard<'py, u64>, WaitError> {
    ///     let guard = mutex.lock_with(py, Duration::from_secs(1))?;
    ///     Ok(PyMutexGuard::into_arc(guard, mutex, py))
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `mutex` is not the mutex of the guard.
    #[inline]
    #[track_caller]
    pub fn into_arc<'py>(
        guard: Self,
        mutex: &Arc<PyMutex<T>>,
        py: Python<'py>,
    ) -> ArcPyMutexGuard<'py, T> {
        ArcGuard::from_guard(guard, mutex, py)
    }
}

impl<T: ?Sized> ArcPyMutexGuard<'_, T> {
    /// Returns the mutex of this guard.
    pub fn mutex(guard: &Self) -> &Arc<PyMutex<T>> {
        ArcGuard::lock(guard)
    }

    /// Unlocks the mutex and returns it.
    pub fn unlock(guard: Self) -> Arc<PyMutex<T>> {
        Arc::clone(ArcGuard::lock(&guard))
    }
}
