//! The guards of [`PyRwLock`].

use std::{panic::Location, ptr::NonNull, sync::Arc};

use pyo3::Python;

use super::{PyRwLock, raw::RawRwLock};
use crate::{
    guard::{
        ArcGuard, Exclusive, ExclusiveMode, Guard, Mode, Part, PoisonOnPanic, Reading, Shared,
        Writing,
    },
    wait::{Failure, Wait, readers::Entry},
};

/// A [`PyRwLock`] locked for reading. It is unlocked when the guard is dropped.
pub type PyRwLockReadGuard<'a, T> = Guard<'a, Reading, Shared<T>>;

/// A [`PyRwLock`] locked for writing. It is unlocked when the guard is dropped.
pub type PyRwLockWriteGuard<'a, T> = Guard<'a, Writing, Exclusive<T>>;

/// A [`PyRwLock`] locked for reading, with access to a part of its data: see
/// [`PyRwLockReadGuard::map`].
///
/// It has no `unlocked`: the part may not exist any more afterwards.
pub type MappedPyRwLockReadGuard<'a, T> = Guard<'a, Reading, Shared<T>, Part>;

/// A [`PyRwLock`] locked for writing, with access to a part of its data: see
/// [`PyRwLockWriteGuard::map`].
///
/// It has no `unlocked`: the part may not exist any more afterwards.
pub type MappedPyRwLockWriteGuard<'a, T> = Guard<'a, Writing, Exclusive<T>, Part>;

/// A [`PyRwLock`] in an [`Arc`](std::sync::Arc) locked for reading: see [`PyRwLock::read_arc`].
pub type ArcPyRwLockReadGuard<'py, T> = ArcGuard<'py, Reading, T>;

/// A [`PyRwLock`] in an [`Arc`](std::sync::Arc) locked for writing: see [`PyRwLock::write_arc`].
pub type ArcPyRwLockWriteGuard<'py, T> = ArcGuard<'py, Writing, T>;

// SAFETY: while there is an entry no thread writes. The collector makes shared references only.
unsafe impl Mode for Reading {
    type Lock<T: ?Sized> = PyRwLock<T>;
    type Raw = RawRwLock;
    type Hold = Entry;

    #[inline(always)]
    fn raw<T: ?Sized>(lock: &PyRwLock<T>) -> &RawRwLock {
        &lock.raw
    }

    #[inline(always)]
    fn data<T: ?Sized>(lock: &PyRwLock<T>) -> NonNull<T> {
        // SAFETY: the pointer comes from a reference.
        unsafe { NonNull::new_unchecked(lock.data.get()) }
    }

    #[inline]
    fn acquire(
        raw: &RawRwLock,
        py: Python<'_>,
        caller: &'static Location<'static>,
    ) -> Result<Entry, Failure> {
        raw.read(py, &Wait::FOREVER, caller)
    }

    #[inline]
    unsafe fn release(raw: &RawRwLock, py: Python<'_>, entry: Entry) {
        // SAFETY: guaranteed by the caller.
        unsafe { raw.unlock_read(py, entry) }
    }
}

// SAFETY: only the writer has a reference to the data. The collector makes none while there is one.
unsafe impl Mode for Writing {
    type Lock<T: ?Sized> = PyRwLock<T>;
    type Raw = RawRwLock;
    type Hold = PoisonOnPanic;

    #[inline(always)]
    fn raw<T: ?Sized>(lock: &PyRwLock<T>) -> &RawRwLock {
        &lock.raw
    }

    #[inline(always)]
    fn data<T: ?Sized>(lock: &PyRwLock<T>) -> NonNull<T> {
        Reading::data(lock)
    }

    #[inline]
    fn acquire(
        raw: &RawRwLock,
        py: Python<'_>,
        caller: &'static Location<'static>,
    ) -> Result<PoisonOnPanic, Failure> {
        raw.write(py, &Wait::FOREVER, caller)?;
        Ok(PoisonOnPanic::new())
    }

    #[inline]
    unsafe fn release(raw: &RawRwLock, py: Python<'_>, hold: PoisonOnPanic) {
        // SAFETY: guaranteed by the caller.
        unsafe { raw.unlock_write_poisoning(py, hold.was_panicking) }
    }
}

// SAFETY: only the writer has a reference to the data.
unsafe impl ExclusiveMode for Writing {}

impl<T: ?Sized> PyRwLockReadGuard<'_, T> {
    /// Converts the guard to one that owns a reference to the lock.
    ///
    /// See [`PyMutexGuard::into_arc`](crate::PyMutexGuard::into_arc).
    ///
    /// # Panics
    ///
    /// Panics if `rwlock` is not the lock of the guard.
    #[inline]
    #[track_caller]
    pub fn into_arc<'py>(
        guard: Self,
        rwlock: &Arc<PyRwLock<T>>,
        py: Python<'py>,
    ) -> ArcPyRwLockReadGuard<'py, T> {
        ArcGuard::from_guard(guard, rwlock, py)
    }
}

impl<'a, T: ?Sized> PyRwLockWriteGuard<'a, T> {
    /// Converts the guard to one that owns a reference to the lock.
    ///
    /// See [`PyMutexGuard::into_arc`](crate::PyMutexGuard::into_arc).
    ///
    /// # Panics
    ///
    /// Panics if `rwlock` is not the lock of the guard.
    #[inline]
    #[track_caller]
    pub fn into_arc<'py>(
        guard: Self,
        rwlock: &Arc<PyRwLock<T>>,
        py: Python<'py>,
    ) -> ArcPyRwLockWriteGuard<'py, T> {
        ArcGuard::from_guard(guard, rwlock, py)
    }

    /// Downgrades the guard to one for reading. No other thread writes in between.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard};
    /// fn refresh<'a>(
    ///     py: Python<'a>,
    ///     rows: &'a PyRwLock<Vec<u64>>,
    /// ) -> PyRwLockReadGuard<'a, Vec<u64>> {
    ///     let mut guard = rows.write(py);
    ///     guard.push(1);
    ///     PyRwLockWriteGuard::downgrade(guard) // Other threads may read from here on.
    /// }
    /// ```
    ///
    /// There is no upgrade: two readers that both want to write would wait for each other.
    #[track_caller]
    pub fn downgrade(guard: Self) -> PyRwLockReadGuard<'a, T> {
        // SAFETY: `exchange` calls the closure with the hold of this guard, which is consumed.
        // `Shared` goes with `Reading`.
        unsafe { Guard::exchange(guard, |raw, py, _| raw.downgrade(py)) }
    }
}

impl<T: ?Sized> ArcPyRwLockReadGuard<'_, T> {
    /// Returns the lock of this guard.
    pub fn rwlock(guard: &Self) -> &Arc<PyRwLock<T>> {
        ArcGuard::lock(guard)
    }

    /// Unlocks the lock and returns it.
    pub fn unlock(guard: Self) -> Arc<PyRwLock<T>> {
        Arc::clone(ArcGuard::lock(&guard))
    }
}

impl<'py, T: ?Sized> ArcPyRwLockWriteGuard<'py, T> {
    /// Returns the lock of this guard.
    pub fn rwlock(guard: &Self) -> &Arc<PyRwLock<T>> {
        ArcGuard::lock(guard)
    }

    /// Unlocks the lock and returns it.
    pub fn unlock(guard: Self) -> Arc<PyRwLock<T>> {
        Arc::clone(ArcGuard::lock(&guard))
    }

    /// Downgrades the guard to one for reading. No other thread writes in between.
    pub fn downgrade(guard: Self) -> ArcPyRwLockReadGuard<'py, T> {
        // SAFETY: `exchange` calls the closure with the hold of this guard, which is consumed.
        unsafe { ArcGuard::exchange(guard, |raw, py, _| raw.downgrade(py)) }
    }
}
