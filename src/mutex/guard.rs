//! The guards of [`PyMutex`].
//!
//! Each holds the token it was made with, a value of no size. So a guard lives no longer than the token, stays on its
//! thread, and cannot be taken into a closure that runs detached: when it is dropped, its thread is attached.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    panic::Location,
    ptr::NonNull,
    sync::Arc,
    thread,
};

use pyo3::Python;

use super::{PyMutex, raw::RawMutex};
use crate::{
    deadlock::panic_with,
    wait::{Patience, Refusal},
};

/// A lock that is held, without what it guards.
struct Held<'a> {
    raw: &'a RawMutex,
    py: Python<'a>,
    /// Whether the thread was panicking when it locked: then the lock does not tell of a new panic.
    was_panicking: bool,
    /// Whether there is nothing to unlock, since a re-acquisition failed.
    disarmed: bool,
}

impl<'a> Held<'a> {
    #[inline]
    fn new(raw: &'a RawMutex, py: Python<'a>) -> Self {
        Held {
            raw,
            py,
            was_panicking: thread::panicking(),
            disarmed: false,
        }
    }

    /// Locks the mutex after a while without it, and arms the guard.
    fn lock_again(&mut self, asked_at: &'static Location<'static>) -> Result<(), Refusal> {
        self.raw.lock(self.py, || Patience::Forever, asked_at)?;
        self.disarmed = false;
        // What has begun to panic since did not do so under the lock.
        self.was_panicking = thread::panicking();
        Ok(())
    }

    #[inline]
    #[track_caller]
    fn assert_armed(&self) {
        if self.disarmed {
            disarmed();
        }
    }
}

#[cold]
#[track_caller]
fn disarmed() -> ! {
    panic_with(
        &"this guard holds nothing: its mutex was unlocked for a while, \
          and locking it again would have been a deadlock",
        "do not use such a guard in destructors",
    )
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.disarmed {
            // SAFETY: a `Held` is made for a mutex that its thread owns, and has not left that thread, since the
            // token in it is not `Send`. The guard around it ends with it, and all references that came from it.
            unsafe { self.raw.unlock_poisoning(self.py, self.was_panicking) }
        }
    }
}

/// The right to use the data of a [`PyMutex`], until it is dropped.
///
/// # Not here
///
/// Of `lock_api`'s: `leak`, which would keep the mutex locked for ever, and give data that outlive the token; `unlock_fair`,
/// `unlocked_fair` and `bump`, since the mutex is fair enough by itself; `try_map_or_err`: let the closure of
/// [`try_map`](Self::try_map) put the error aside. A checked or interruptible [`unlocked`](Self::unlocked): the guard must hold the mutex
/// again when that returns, and a deadlock there is to be mended rather than handled.
///
/// # Panics
///
/// Using a guard panics after [`unlocked`](Self::unlocked) has failed to lock the mutex again.
#[must_use = "if unused the mutex unlocks at once"]
pub struct PyMutexGuard<'a, T: ?Sized> {
    held: Held<'a>,
    mutex: &'a PyMutex<T>,
}

// SAFETY: a shared guard gives a shared reference to the data, which other threads may use if the data is `Sync`; and one to the mutex,
// which they may lock later, and so get or drop the data, if the data is `Send`. The token is not reachable from outside, and
// dropping, mapping or unlocking needs the guard itself.
unsafe impl<T: ?Sized + Send + Sync> Sync for PyMutexGuard<'_, T> {}

impl<'a, T: ?Sized> PyMutexGuard<'a, T> {
    /// # Safety
    ///
    /// The calling thread owns the mutex, and no other guard knows of it.
    #[inline]
    pub(super) unsafe fn new(mutex: &'a PyMutex<T>, py: Python<'a>) -> Self {
        PyMutexGuard {
            held: Held::new(&mutex.raw, py),
            mutex,
        }
    }

    /// The mutex that this guard locks.
    ///
    /// An associated function, as all of a guard are, so that it does not hide a `mutex` of the data's own.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// use pyo3_sync::PyMutexGuard;
    ///
    /// /// Unlocks, does something, and locks again, for a caller who wants a guard that was never unlocked.
    /// fn renew<'a>(guard: PyMutexGuard<'a, u64>, py: Python<'a>) -> PyMutexGuard<'a, u64> {
    ///     let mutex = PyMutexGuard::mutex(&guard);
    ///     drop(guard);
    ///     mutex.lock(py)
    /// }
    /// ```
    pub fn mutex(guard: &Self) -> &'a PyMutex<T> {
        guard.mutex
    }

    /// A guard for a part of the data.
    ///
    /// An associated function, so that it does not hide a `map` of the data's own.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// use pyo3_sync::{MappedPyMutexGuard, PyMutex, PyMutexGuard};
    ///
    /// struct Config { name: String }
    ///
    /// fn name<'a>(config: &'a PyMutex<Config>, py: Python<'a>) -> MappedPyMutexGuard<'a, String> {
    ///     PyMutexGuard::map(config.lock(py), |config| &mut config.name)
    /// }
    /// ```
    pub fn map<U: ?Sized>(
        guard: Self,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedPyMutexGuard<'a, U> {
        MappedPyMutexGuard::from(guard).map_inner(f)
    }

    /// A guard for a part of the data, if there is one.
    ///
    /// # Errors
    ///
    /// The guard as it was, if `f` gives `None`.
    pub fn try_map<U: ?Sized>(
        mut guard: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedPyMutexGuard<'a, U>, Self> {
        match f(&mut guard).map(NonNull::from) {
            Some(data) => Ok(MappedPyMutexGuard {
                held: guard.held,
                data,
                _data: PhantomData,
            }),
            None => Err(guard),
        }
    }

    /// Runs `f` with the mutex unlocked, and locks it again.
    ///
    /// For code under the lock that has to call back into Python. What the data was before says nothing about what
    /// it is afterwards.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// # use pyo3_sync::{PyMutex, PyMutexGuard};
    /// # Python::initialize();
    /// # Python::attach(|py| {
    /// let mutex = PyMutex::new(1);
    /// let mut guard = mutex.lock(py);
    /// PyMutexGuard::unlocked(&mut guard, || *mutex.lock(py) += 1);
    /// assert_eq!(*guard, 2);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// If `f` panics; the mutex is locked again first, and not poisoned. If locking it again would be a deadlock: the guard
    /// is *disarmed* then, which means that it unlocks nothing when it is dropped, and that using it panics. What `f`
    /// returned is dropped.
    #[track_caller]
    pub fn unlocked<R>(guard: &mut Self, f: impl FnOnce() -> R) -> R {
        guard.held.assert_armed();
        let asked_at = Location::caller();
        // SAFETY: this thread owns the mutex, as the guard is armed, and the guard is borrowed for as long as it does
        // not, so no reference to the data is left and none can be made.
        unsafe { guard.held.raw.unlock(guard.held.py) };
        // From here on the guard has nothing to unlock, whatever comes.
        guard.held.disarmed = true;
        let on_panic = LockAgainOnPanic {
            held: &mut guard.held,
            asked_at,
        };
        let result = f();
        std::mem::forget(on_panic);
        // A panic here drops `result`, which may be the guard of another lock. It would not if a destructor panicked.
        match guard.held.lock_again(asked_at) {
            Ok(()) => result,
            Err(refusal) => refusal.into_deadlock().panic(),
        }
    }
}

impl<'a, T: ?Sized> PyMutexGuard<'a, T> {
    /// Unlocks for as long as `sleep` takes, and locks again, also if `sleep` panics. If that fails the guard is disarmed.
    #[track_caller]
    pub(crate) fn wait_unlocked<R>(
        &mut self,
        asked_at: &'static Location<'static>,
        sleep: impl FnOnce(Python<'a>) -> R,
    ) -> (R, Result<(), Refusal>) {
        self.held.assert_armed();
        // SAFETY: as in `unlocked`.
        unsafe { self.held.raw.unlock(self.held.py) };
        self.held.disarmed = true;
        let py = self.held.py;
        let on_panic = LockAgainOnPanic {
            held: &mut self.held,
            asked_at,
        };
        let result = sleep(py);
        std::mem::forget(on_panic);
        (result, self.held.lock_again(asked_at))
    }

    /// Panics if this guard is disarmed.
    #[track_caller]
    pub(crate) fn assert_armed(&self) {
        self.held.assert_armed();
    }

    pub(crate) fn is_disarmed(&self) -> bool {
        self.held.disarmed
    }
}

/// Locks a mutex again if the closure that was to run without it panics.
struct LockAgainOnPanic<'g, 'a> {
    held: &'g mut Held<'a>,
    asked_at: &'static Location<'static>,
}

impl Drop for LockAgainOnPanic<'_, '_> {
    fn drop(&mut self) {
        // A second panic would abort the process, and the first one is on its way to say that something is wrong. A guard
        // that could not be armed says so to whoever uses it.
        let _ = self.held.lock_again(self.asked_at);
    }
}

impl<T: ?Sized> Deref for PyMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        self.held.assert_armed();
        // SAFETY: an armed guard is the only one for a mutex that its thread owns, so no other reference exists but
        // those borrowed from this guard. The collector makes none while the mutex is owned.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for PyMutexGuard<'_, T> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.held.assert_armed();
        // SAFETY: as in `deref`; and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.data.get() }
    }
}

/// The right to use a part of the data of a [`PyMutex`]: see [`PyMutexGuard::map`].
///
/// What is not in [`PyMutexGuard`](PyMutexGuard#not-here) is not here either; nor is `unlocked`, as in `lock_api`: the part may be gone
/// afterwards.
#[must_use = "if unused the mutex unlocks at once"]
pub struct MappedPyMutexGuard<'a, U: ?Sized> {
    held: Held<'a>,
    data: NonNull<U>,
    /// Borrows the data exclusively, and so makes the guard invariant in `U`: through a guard of a longer-lived type
    /// one of a shorter-lived type could be stored otherwise.
    _data: PhantomData<&'a mut U>,
}

// SAFETY: as for `PyMutexGuard`; `Send` is not needed, since there is no way from here to the mutex.
unsafe impl<U: ?Sized + Sync> Sync for MappedPyMutexGuard<'_, U> {}

impl<'a, U: ?Sized> MappedPyMutexGuard<'a, U> {
    /// A guard for a part of this part.
    pub fn map<V: ?Sized>(
        guard: Self,
        f: impl FnOnce(&mut U) -> &mut V,
    ) -> MappedPyMutexGuard<'a, V> {
        guard.map_inner(f)
    }

    fn map_inner<V: ?Sized>(
        mut self,
        f: impl FnOnce(&mut U) -> &mut V,
    ) -> MappedPyMutexGuard<'a, V> {
        MappedPyMutexGuard {
            data: NonNull::from(f(&mut self)),
            held: self.held,
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
    ) -> Result<MappedPyMutexGuard<'a, V>, Self> {
        match f(&mut guard).map(NonNull::from) {
            Some(data) => Ok(MappedPyMutexGuard {
                held: guard.held,
                data,
                _data: PhantomData,
            }),
            None => Err(guard),
        }
    }
}

impl<'a, T: ?Sized> From<PyMutexGuard<'a, T>> for MappedPyMutexGuard<'a, T> {
    fn from(mut guard: PyMutexGuard<'a, T>) -> Self {
        MappedPyMutexGuard {
            data: NonNull::from(&mut *guard),
            held: guard.held,
            _data: PhantomData,
        }
    }
}

impl<U: ?Sized> Deref for MappedPyMutexGuard<'_, U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        // SAFETY: the pointer came from an exclusive borrow of the data of a mutex that this guard holds locked. It
        // is made from armed guards only, and has no way of being disarmed.
        unsafe { self.data.as_ref() }
    }
}

impl<U: ?Sized> DerefMut for MappedPyMutexGuard<'_, U> {
    #[inline]
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as in `deref`; and the guard is borrowed exclusively.
        unsafe { self.data.as_mut() }
    }
}

/// The right to use the data of a [`PyMutex`] in an [`Arc`]: see [`PyMutex::lock_arc`].
///
/// What is not in [`PyMutexGuard`](PyMutexGuard#not-here) is not here either. `into_arc` of `lock_api`'s is [`unlock`](Self::unlock), which
/// serves for `unlocked` as well: unlock, do what is to be done, and call [`PyMutex::lock_arc`] again. There is no `map`, as in `lock_api`.
#[must_use = "if unused the mutex unlocks at once"]
pub struct ArcPyMutexGuard<'py, T: ?Sized> {
    mutex: Arc<PyMutex<T>>,
    py: Python<'py>,
    was_panicking: bool,
}

// SAFETY: a shared guard gives a shared reference to the data, hence `Sync`, and one to the `Arc`, through which another
// thread can lock the mutex later, or become the one that drops the data, hence `Send`.
unsafe impl<T: ?Sized + Send + Sync> Sync for ArcPyMutexGuard<'_, T> {}

impl<'py, T: ?Sized> ArcPyMutexGuard<'py, T> {
    /// # Safety
    ///
    /// The calling thread owns the mutex, and no other guard knows of it.
    #[inline]
    pub(super) unsafe fn new(mutex: Arc<PyMutex<T>>, py: Python<'py>) -> Self {
        ArcPyMutexGuard {
            mutex,
            py,
            was_panicking: thread::panicking(),
        }
    }

    /// The mutex that this guard locks.
    pub fn mutex(guard: &Self) -> &Arc<PyMutex<T>> {
        &guard.mutex
    }

    /// Unlocks the mutex and gives back the reference to it.
    pub fn unlock(guard: Self) -> Arc<PyMutex<T>> {
        let mutex = Arc::clone(&guard.mutex);
        drop(guard);
        mutex
    }
}

impl<T: ?Sized> Deref for ArcPyMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this is the only guard for a mutex that its thread owns, as in `PyMutexGuard`.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for ArcPyMutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for ArcPyMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard was made for a mutex that its thread owns, and has not left that thread. The data is
        // not used after this, and the mutex lives on for as long as the `Arc`, which is dropped after it.
        unsafe { self.mutex.raw.unlock_poisoning(self.py, self.was_panicking) }
    }
}

/// The data; a guard that was disarmed shows that.
impl<T: ?Sized + fmt::Debug> fmt::Debug for PyMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.held.disarmed {
            return f.write_str("<disarmed>");
        }
        (**self).fmt(f)
    }
}

macro_rules! impl_debug {
    ($($guard:ident)*) => { $(
        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )* };
}
impl_debug!(MappedPyMutexGuard ArcPyMutexGuard);

macro_rules! impl_display {
    ($($guard:ident)*) => { $(
        impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )* };
}
impl_display!(PyMutexGuard MappedPyMutexGuard ArcPyMutexGuard);
