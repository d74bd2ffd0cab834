//! The guards of [`PyMutex`].

use std::{panic::Location, ptr::NonNull, sync::Arc};

use pyo3::Python;

use super::{PyMutex, raw::RawMutex};
use crate::{
    guard::{ArcGuard, Exclusive, ExclusiveMode, Guard, Locked, Mode, Part, PoisonOnPanic},
    wait::{Patience, Refusal},
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
    ) -> Result<PoisonOnPanic, Refusal> {
        raw.lock(py, || Patience::Forever, caller)?;
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
