//! The guards of [`PyRwLock`].
//!
//! As those of the mutex, each holds the token it was made with: it lives no longer than that, stays on its thread, and cannot be taken
//! into a closure that runs detached. What it guards can be lent to one.

use std::{
    fmt,
    marker::PhantomData,
    mem,
    ops::{Deref, DerefMut},
    panic::Location,
    ptr::NonNull,
    sync::Arc,
    thread,
};

use pyo3::Python;

use super::{PyRwLock, raw::RawRwLock};
use crate::{
    deadlock::panic_with,
    wait::{Patience, Refusal, readers::Entry},
};

/// A lock that is read, without what it guards.
struct Reading<'a> {
    raw: &'a RawRwLock,
    py: Python<'a>,
    /// `None` if it is disarmed: there is nothing to unlock, since a re-acquisition failed.
    entry: Option<Entry>,
}

impl Reading<'_> {
    #[inline]
    #[track_caller]
    fn assert_armed(&self) {
        if self.entry.is_none() {
            disarmed();
        }
    }

    fn stop(&mut self) {
        if let Some(entry) = self.entry.take() {
            // SAFETY: the guard around this is dropped, or borrowed exclusively for as long as it is without its entry, so no
            // reference that came from it is left.
            unsafe { self.raw.unlock_read(self.py, entry) }
        }
    }

    fn lock_again(&mut self, asked_at: &'static Location<'static>) -> Result<(), Refusal> {
        self.entry = Some(self.raw.read(self.py, || Patience::Forever, asked_at)?);
        Ok(())
    }
}

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        self.stop();
    }
}

/// A lock that is written, without what it guards.
struct Writing<'a> {
    raw: &'a RawRwLock,
    py: Python<'a>,
    /// Whether the thread was panicking when it locked: then the lock does not tell of a new panic.
    was_panicking: bool,
    /// Whether there is nothing to unlock, since a re-acquisition failed.
    disarmed: bool,
}

impl<'a> Writing<'a> {
    #[inline]
    fn new(raw: &'a RawRwLock, py: Python<'a>) -> Self {
        Writing {
            raw,
            py,
            was_panicking: thread::panicking(),
            disarmed: false,
        }
    }

    #[inline]
    #[track_caller]
    fn assert_armed(&self) {
        if self.disarmed {
            disarmed();
        }
    }

    fn lock_again(&mut self, asked_at: &'static Location<'static>) -> Result<(), Refusal> {
        self.raw.write(self.py, || Patience::Forever, asked_at)?;
        self.disarmed = false;
        // What has begun to panic since did not do so under the lock.
        self.was_panicking = thread::panicking();
        Ok(())
    }
}

impl Drop for Writing<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.disarmed {
            // SAFETY: made for a lock that its thread has for writing, on which it has stayed, since the token is not `Send`.
            // The guard around it ends with it, and all references that came from it.
            unsafe {
                self.raw.unlock_write_poisoning(self.py, self.was_panicking);
            }
        }
    }
}

#[cold]
#[track_caller]
fn disarmed() -> ! {
    panic_with(
        &"this guard holds nothing: its lock was unlocked for a while, \
          and locking it again would have been a deadlock",
        "do not use such a guard in destructors",
    )
}

/// Locks again if the closure that was to run without the lock panics.
struct OnPanic<'g, G>(
    &'g mut G,
    fn(&mut G, &'static Location<'static>),
    &'static Location<'static>,
);

impl<G> Drop for OnPanic<'_, G> {
    fn drop(&mut self) {
        (self.1)(self.0, self.2);
    }
}

/// The right to read the data of a [`PyRwLock`], until it is dropped.
///
/// # Not here
///
/// What is not in [`PyMutexGuard`](crate::PyMutexGuard#not-here) is not in the guards of this lock either. `upgrade`, for which two readers
/// would wait for each other: drop this guard, ask to write, and look again, since others may have written in between.
///
/// # Panics
///
/// Using a guard panics after [`unlocked`](Self::unlocked) has failed to lock again.
#[must_use = "if unused the lock unlocks at once"]
pub struct PyRwLockReadGuard<'a, T: ?Sized> {
    reading: Reading<'a>,
    lock: &'a PyRwLock<T>,
}

// SAFETY: a shared guard gives a shared reference to the data, which other threads may use if the data is `Sync`; and one to the lock,
// with which they may write later, and so get or drop the data, if the data is `Send`. The token and the entry are not reachable
// from outside, and dropping, mapping or unlocking needs the guard itself.
unsafe impl<T: ?Sized + Send + Sync> Sync for PyRwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> PyRwLockReadGuard<'a, T> {
    /// `entry` is of the calling thread, for `lock`, and no other guard knows of it.
    #[inline]
    pub(super) fn new(lock: &'a PyRwLock<T>, entry: Entry, py: Python<'a>) -> Self {
        PyRwLockReadGuard {
            reading: Reading {
                raw: &lock.raw,
                py,
                entry: Some(entry),
            },
            lock,
        }
    }

    /// The lock of this guard.
    pub fn rwlock(guard: &Self) -> &'a PyRwLock<T> {
        guard.lock
    }

    /// A guard for a part of the data.
    ///
    /// An associated function, so that it does not hide a `map` of the data's own.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// use pyo3_sync::{MappedPyRwLockReadGuard, PyRwLock, PyRwLockReadGuard};
    ///
    /// struct Config { name: String }
    ///
    /// fn name<'a>(config: &'a PyRwLock<Config>, py: Python<'a>) -> MappedPyRwLockReadGuard<'a, String> {
    ///     PyRwLockReadGuard::map(config.read(py), |config| &config.name)
    /// }
    /// ```
    pub fn map<U: ?Sized>(guard: Self, f: impl FnOnce(&T) -> &U) -> MappedPyRwLockReadGuard<'a, U> {
        MappedPyRwLockReadGuard {
            data: NonNull::from(f(&guard)),
            reading: guard.reading,
            _data: PhantomData,
        }
    }

    /// A guard for a part of the data, if there is one.
    ///
    /// # Errors
    ///
    /// The guard as it was, if `f` gives `None`.
    pub fn try_map<U: ?Sized>(
        guard: Self,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<MappedPyRwLockReadGuard<'a, U>, Self> {
        match f(&guard).map(NonNull::from) {
            Some(data) => Ok(MappedPyRwLockReadGuard {
                reading: guard.reading,
                data,
                _data: PhantomData,
            }),
            None => Err(guard),
        }
    }

    /// Runs `f` without this lock on the data, and locks again, to read. If the thread reads the lock with another guard
    /// too, that one keeps it locked.
    ///
    /// # Panics
    ///
    /// As [`PyMutexGuard::unlocked`](crate::PyMutexGuard::unlocked).
    #[track_caller]
    pub fn unlocked<R>(guard: &mut Self, f: impl FnOnce() -> R) -> R {
        guard.reading.assert_armed();
        let asked_at = Location::caller();
        guard.reading.stop();
        // Another panic would abort the process; a guard that could not be armed says so to whoever uses it.
        let lock_again = |reading: &mut Reading<'a>, asked_at| {
            let _ = reading.lock_again(asked_at);
        };
        let on_panic = OnPanic(&mut guard.reading, lock_again, asked_at);
        let result = f();
        mem::forget(on_panic);
        match guard.reading.lock_again(asked_at) {
            Ok(()) => result,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }
}

impl<T: ?Sized> Deref for PyRwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        self.reading.assert_armed();
        // SAFETY: an armed guard has an entry, and while there is one no thread has the lock for writing. The collector makes
        // only shared references.
        unsafe { &*self.lock.data.get() }
    }
}

/// The right to write the data of a [`PyRwLock`], until it is dropped.
///
/// # Panics
///
/// Using a guard panics after [`unlocked`](Self::unlocked) has failed to lock again.
#[must_use = "if unused the lock unlocks at once"]
pub struct PyRwLockWriteGuard<'a, T: ?Sized> {
    writing: Writing<'a>,
    lock: &'a PyRwLock<T>,
}

// SAFETY: as for `PyRwLockReadGuard`.
unsafe impl<T: ?Sized + Send + Sync> Sync for PyRwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> PyRwLockWriteGuard<'a, T> {
    /// # Safety
    ///
    /// The calling thread has the lock for writing, and no other guard knows of it.
    #[inline]
    pub(super) unsafe fn new(lock: &'a PyRwLock<T>, py: Python<'a>) -> Self {
        PyRwLockWriteGuard {
            writing: Writing::new(&lock.raw, py),
            lock,
        }
    }

    /// The lock of this guard.
    pub fn rwlock(guard: &Self) -> &'a PyRwLock<T> {
        guard.lock
    }

    /// Goes from writing to reading: no other thread writes in between.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard};
    /// fn refresh<'a>(py: Python<'a>, rows: &'a PyRwLock<Vec<u64>>) -> PyRwLockReadGuard<'a, Vec<u64>> {
    ///     let mut guard = rows.write(py);
    ///     guard.push(1);
    ///     PyRwLockWriteGuard::downgrade(guard) // Others may read too from here on.
    /// }
    /// ```
    ///
    /// The other way round there is nothing: two readers that both want to become the writer wait for each other.
    #[track_caller]
    pub fn downgrade(guard: Self) -> PyRwLockReadGuard<'a, T> {
        guard.writing.assert_armed();
        let PyRwLockWriteGuard { writing, lock } = guard;
        let py = writing.py;
        // What the drop would do, but for the entry that is made in between.
        mem::forget(writing);
        // SAFETY: this thread has the lock for writing, since the guard was armed, and the guard is gone.
        let entry = unsafe { lock.raw.downgrade(py) };
        PyRwLockReadGuard::new(lock, entry, py)
    }

    /// A guard for a part of the data.
    ///
    /// An associated function, so that it does not hide a `map` of the data's own.
    pub fn map<U: ?Sized>(
        mut guard: Self,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedPyRwLockWriteGuard<'a, U> {
        MappedPyRwLockWriteGuard {
            data: NonNull::from(f(&mut guard)),
            writing: guard.writing,
            _data: PhantomData,
        }
    }

    /// A guard for a part of the data, if there is one.
    ///
    /// # Errors
    ///
    /// The guard as it was, if `f` gives `None`.
    pub fn try_map<U: ?Sized>(
        mut guard: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedPyRwLockWriteGuard<'a, U>, Self> {
        match f(&mut guard).map(NonNull::from) {
            Some(data) => Ok(MappedPyRwLockWriteGuard {
                writing: guard.writing,
                data,
                _data: PhantomData,
            }),
            None => Err(guard),
        }
    }

    /// Runs `f` without the lock, and locks again, to write. What the data was before says nothing about what it is afterwards.
    ///
    /// # Panics
    ///
    /// As [`PyMutexGuard::unlocked`](crate::PyMutexGuard::unlocked).
    #[track_caller]
    pub fn unlocked<R>(guard: &mut Self, f: impl FnOnce() -> R) -> R {
        guard.writing.assert_armed();
        let asked_at = Location::caller();
        // SAFETY: this thread has the lock for writing, as the guard is armed, and the guard is borrowed for as long as it has
        // not, so no reference to the data is left and none can be made.
        unsafe { guard.writing.raw.unlock_write(guard.writing.py) };
        // From here on the guard has nothing to unlock, whatever comes.
        guard.writing.disarmed = true;
        // Another panic would abort the process; a guard that could not be armed says so to whoever uses it.
        let lock_again = |writing: &mut Writing<'a>, asked_at| {
            let _ = writing.lock_again(asked_at);
        };
        let on_panic = OnPanic(&mut guard.writing, lock_again, asked_at);
        let result = f();
        mem::forget(on_panic);
        match guard.writing.lock_again(asked_at) {
            Ok(()) => result,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }
}

impl<T: ?Sized> Deref for PyRwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        self.writing.assert_armed();
        // SAFETY: an armed guard is the only one for a lock that its thread has for writing, so no other reference exists but
        // those borrowed from this guard. The collector makes none while the lock has an owner.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for PyRwLockWriteGuard<'_, T> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.writing.assert_armed();
        // SAFETY: as in `deref`; and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.data.get() }
    }
}

/// The right to read a part of the data of a [`PyRwLock`]: see [`PyRwLockReadGuard::map`].
#[must_use = "if unused the lock unlocks at once"]
pub struct MappedPyRwLockReadGuard<'a, U: ?Sized> {
    /// Dropped with the guard, which unlocks.
    reading: Reading<'a>,
    data: NonNull<U>,
    _data: PhantomData<&'a U>,
}

// SAFETY: as for `PyRwLockReadGuard`; `Send` is not needed, since there is no way from here to the lock.
unsafe impl<U: ?Sized + Sync> Sync for MappedPyRwLockReadGuard<'_, U> {}

impl<'a, U: ?Sized> MappedPyRwLockReadGuard<'a, U> {
    /// A guard for a part of this part.
    pub fn map<V: ?Sized>(guard: Self, f: impl FnOnce(&U) -> &V) -> MappedPyRwLockReadGuard<'a, V> {
        MappedPyRwLockReadGuard {
            data: NonNull::from(f(&guard)),
            reading: guard.reading,
            _data: PhantomData,
        }
    }

    /// A guard for a part of this part, if there is one.
    ///
    /// # Errors
    ///
    /// The guard as it was, if `f` gives `None`.
    pub fn try_map<V: ?Sized>(
        guard: Self,
        f: impl FnOnce(&U) -> Option<&V>,
    ) -> Result<MappedPyRwLockReadGuard<'a, V>, Self> {
        match f(&guard).map(NonNull::from) {
            Some(data) => Ok(MappedPyRwLockReadGuard {
                reading: guard.reading,
                data,
                _data: PhantomData,
            }),
            None => Err(guard),
        }
    }
}

impl<U: ?Sized> Deref for MappedPyRwLockReadGuard<'_, U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        debug_assert!(self.reading.entry.is_some());
        // SAFETY: the pointer came from a borrow of the data of a lock that this guard reads. It is made from armed guards
        // only, and has no way of being disarmed.
        unsafe { self.data.as_ref() }
    }
}

/// The right to write a part of the data of a [`PyRwLock`]: see [`PyRwLockWriteGuard::map`].
#[must_use = "if unused the lock unlocks at once"]
pub struct MappedPyRwLockWriteGuard<'a, U: ?Sized> {
    writing: Writing<'a>,
    data: NonNull<U>,
    /// Borrows the data exclusively, and so makes the guard invariant in `U`: through a guard of a longer-lived type
    /// one of a shorter-lived type could be stored otherwise.
    _data: PhantomData<&'a mut U>,
}

// SAFETY: as for `MappedPyRwLockReadGuard`.
unsafe impl<U: ?Sized + Sync> Sync for MappedPyRwLockWriteGuard<'_, U> {}

impl<'a, U: ?Sized> MappedPyRwLockWriteGuard<'a, U> {
    /// A guard for a part of this part.
    pub fn map<V: ?Sized>(
        mut guard: Self,
        f: impl FnOnce(&mut U) -> &mut V,
    ) -> MappedPyRwLockWriteGuard<'a, V> {
        MappedPyRwLockWriteGuard {
            data: NonNull::from(f(&mut guard)),
            writing: guard.writing,
            _data: PhantomData,
        }
    }

    /// A guard for a part of this part, if there is one.
    ///
    /// # Errors
    ///
    /// The guard as it was, if `f` gives `None`.
    pub fn try_map<V: ?Sized>(
        mut guard: Self,
        f: impl FnOnce(&mut U) -> Option<&mut V>,
    ) -> Result<MappedPyRwLockWriteGuard<'a, V>, Self> {
        match f(&mut guard).map(NonNull::from) {
            Some(data) => Ok(MappedPyRwLockWriteGuard {
                writing: guard.writing,
                data,
                _data: PhantomData,
            }),
            None => Err(guard),
        }
    }
}

impl<U: ?Sized> Deref for MappedPyRwLockWriteGuard<'_, U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        debug_assert!(!self.writing.disarmed);
        // SAFETY: the pointer came from an exclusive borrow of the data of a lock that this guard has for writing. It is made
        // from armed guards only, and has no way of being disarmed.
        unsafe { self.data.as_ref() }
    }
}

impl<U: ?Sized> DerefMut for MappedPyRwLockWriteGuard<'_, U> {
    #[inline]
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as in `deref`; and the guard is borrowed exclusively.
        unsafe { self.data.as_mut() }
    }
}

/// The right to read the data of a [`PyRwLock`] in an [`Arc`]: see [`PyRwLock::read_arc`].
#[must_use = "if unused the lock unlocks at once"]
pub struct ArcPyRwLockReadGuard<'py, T: ?Sized> {
    lock: Arc<PyRwLock<T>>,
    /// `None` only while it is dropped.
    entry: Option<Entry>,
    py: Python<'py>,
}

// SAFETY: a shared guard gives a shared reference to the data, hence `Sync`, and one to the `Arc`, through which another
// thread can lock later, or become the one that drops the data, hence `Send`.
unsafe impl<T: ?Sized + Send + Sync> Sync for ArcPyRwLockReadGuard<'_, T> {}

impl<'py, T: ?Sized> ArcPyRwLockReadGuard<'py, T> {
    /// `entry` is of the calling thread, for `lock`, and no other guard knows of it.
    pub(super) fn new(lock: Arc<PyRwLock<T>>, entry: Entry, py: Python<'py>) -> Self {
        ArcPyRwLockReadGuard {
            lock,
            entry: Some(entry),
            py,
        }
    }

    /// The lock of this guard.
    pub fn rwlock(guard: &Self) -> &Arc<PyRwLock<T>> {
        &guard.lock
    }

    /// Unlocks the lock and gives back the reference to it.
    pub fn unlock(guard: Self) -> Arc<PyRwLock<T>> {
        let lock = Arc::clone(&guard.lock);
        drop(guard);
        lock
    }
}

impl<T: ?Sized> Deref for ArcPyRwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: there is an entry, as in `PyRwLockReadGuard`.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for ArcPyRwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            // SAFETY: the data are not used after this, and the lock lives on for as long as the `Arc`, which is dropped after it.
            unsafe { self.lock.raw.unlock_read(self.py, entry) }
        }
    }
}

/// The right to write the data of a [`PyRwLock`] in an [`Arc`]: see [`PyRwLock::write_arc`].
#[must_use = "if unused the lock unlocks at once"]
pub struct ArcPyRwLockWriteGuard<'py, T: ?Sized> {
    lock: Arc<PyRwLock<T>>,
    py: Python<'py>,
    was_panicking: bool,
}

// SAFETY: as for `ArcPyRwLockReadGuard`.
unsafe impl<T: ?Sized + Send + Sync> Sync for ArcPyRwLockWriteGuard<'_, T> {}

impl<'py, T: ?Sized> ArcPyRwLockWriteGuard<'py, T> {
    /// # Safety
    ///
    /// The calling thread has the lock for writing, and no other guard knows of it.
    pub(super) unsafe fn new(lock: Arc<PyRwLock<T>>, py: Python<'py>) -> Self {
        ArcPyRwLockWriteGuard {
            lock,
            py,
            was_panicking: thread::panicking(),
        }
    }

    /// The lock of this guard.
    pub fn rwlock(guard: &Self) -> &Arc<PyRwLock<T>> {
        &guard.lock
    }

    /// Unlocks the lock and gives back the reference to it.
    pub fn unlock(guard: Self) -> Arc<PyRwLock<T>> {
        let lock = Arc::clone(&guard.lock);
        drop(guard);
        lock
    }

    /// Goes from writing to reading: no other thread writes in between.
    pub fn downgrade(guard: Self) -> ArcPyRwLockReadGuard<'py, T> {
        let (lock, py) = (Arc::clone(&guard.lock), guard.py);
        // SAFETY: this thread has the lock for writing, and the guard is not used any more but for its reference to the lock.
        let entry = unsafe { lock.raw.downgrade(py) };
        // What the drop would do is done, but for this.
        let mut guard = mem::ManuallyDrop::new(guard);
        // SAFETY: the guard is not dropped, and not used after this.
        unsafe { std::ptr::drop_in_place(&mut guard.lock) };
        ArcPyRwLockReadGuard::new(lock, entry, py)
    }
}

impl<T: ?Sized> Deref for ArcPyRwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this is the only guard for a lock that its thread has for writing, as in `PyRwLockWriteGuard`.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for ArcPyRwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for ArcPyRwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: made for a lock that its thread has for writing, and has not left that thread. The data are not used
        // after this, and the lock lives on for as long as the `Arc`, which is dropped after it.
        unsafe {
            self.lock
                .raw
                .unlock_write_poisoning(self.py, self.was_panicking);
        }
    }
}

/// The data; a guard that was disarmed shows that.
impl<T: ?Sized + fmt::Debug> fmt::Debug for PyRwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reading.entry.is_none() {
            return f.write_str("<disarmed>");
        }
        (**self).fmt(f)
    }
}

/// The data; a guard that was disarmed shows that.
impl<T: ?Sized + fmt::Debug> fmt::Debug for PyRwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.writing.disarmed {
            return f.write_str("<disarmed>");
        }
        (**self).fmt(f)
    }
}

macro_rules! impl_fmt {
    ($trait:ident for $($guard:ident)*) => { $(
        impl<T: ?Sized + fmt::$trait> fmt::$trait for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )* };
}
impl_fmt!(Debug for MappedPyRwLockReadGuard MappedPyRwLockWriteGuard ArcPyRwLockReadGuard ArcPyRwLockWriteGuard);
impl_fmt!(Display for PyRwLockReadGuard PyRwLockWriteGuard MappedPyRwLockReadGuard MappedPyRwLockWriteGuard
    ArcPyRwLockReadGuard ArcPyRwLockWriteGuard);
