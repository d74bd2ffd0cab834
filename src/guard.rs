//! Guards: a lock that the current thread holds, with the data behind it.
//!
//! There is one implementation, generic over how the lock is held and over how the data may be used
//! ([`Access`]). The locks name the combinations that exist: [`PyMutexGuard`],
//! [`PyRwLockReadGuard`] and [`PyRwLockWriteGuard`].
//!
//! A guard stores the token it was created with, a value without size. It therefore lives no longer
//! than the attachment, is not `Send`, and cannot be captured by a detached closure. So the thread
//! that drops it is attached.
//!
//! [`PyMutexGuard`]: crate::PyMutexGuard
//! [`PyRwLockReadGuard`]: crate::PyRwLockReadGuard
//! [`PyRwLockWriteGuard`]: crate::PyRwLockWriteGuard

#![allow(
    private_bounds,
    reason = "how a lock is acquired and released is not part of the interface"
)]

use std::{
    fmt,
    marker::PhantomData,
    mem,
    ops::{Deref, DerefMut},
    panic::{Location, RefUnwindSafe, UnwindSafe},
    ptr::{self, NonNull},
    sync::Arc,
    thread,
};

use pyo3::Python;

use self::sealed::Access as _;
use crate::{
    error::{DeadlockError, panic_with},
    wait::Failure,
};

/// Defines how a lock is held: by the owner of a mutex, by a reader or by a writer.
///
/// # Safety
///
/// From `acquire` to `release` no other thread has an exclusive reference to the data. Unless the
/// mode is that of readers, no other thread has a reference to the data.
pub(crate) unsafe trait Mode: Sized {
    /// The lock, with its data.
    type Lock<T: ?Sized>: ?Sized;
    /// The state machine of the lock.
    type Raw;
    /// The value that the current thread keeps while it holds the lock.
    type Hold;

    /// Returns the state machine of a lock.
    fn raw<T: ?Sized>(lock: &Self::Lock<T>) -> &Self::Raw;
    /// Returns a pointer to the data of a lock.
    fn data<T: ?Sized>(lock: &Self::Lock<T>) -> NonNull<T>;

    /// Acquires the lock, blocking until it is available.
    fn acquire(
        raw: &Self::Raw,
        py: Python<'_>,
        caller: &'static Location<'static>,
    ) -> Result<Self::Hold, Failure>;

    /// Releases the lock.
    ///
    /// # Safety
    ///
    /// - `hold` comes from acquiring this lock on this thread.
    /// - No reference to the data is left that depends on it.
    unsafe fn release(raw: &Self::Raw, py: Python<'_>, hold: Self::Hold);
}

/// A mode in which no other thread has a reference to the data.
///
/// # Safety
///
/// As [`Mode`].
pub(crate) unsafe trait ExclusiveMode: Mode {}

/// Defines how the data behind a guard may be used.
///
/// The two implementations differ in variance: data that can only be read may be treated as data of
/// a shorter lifetime.
pub trait Access: sealed::Access<Data = Self::Target> {
    /// The data.
    type Target: ?Sized;
}

mod sealed {
    use std::ptr::NonNull;

    pub trait Access {
        type Data: ?Sized;

        fn new(data: NonNull<Self::Data>) -> Self;
        fn data(&self) -> NonNull<Self::Data>;
    }
}

/// Shared access to a `T`, covariant in `T`.
#[derive(Debug)]
pub struct Shared<T: ?Sized>(NonNull<T>);

/// Exclusive access to a `T`, invariant in `T`.
#[derive(Debug)]
pub struct Exclusive<T: ?Sized>(NonNull<T>, PhantomData<*mut T>);

impl<T: ?Sized> Access for Shared<T> {
    type Target = T;
}

impl<T: ?Sized> sealed::Access for Shared<T> {
    type Data = T;

    #[inline(always)]
    fn new(data: NonNull<T>) -> Self {
        Shared(data)
    }

    #[inline(always)]
    fn data(&self) -> NonNull<T> {
        self.0
    }
}

impl<T: ?Sized> Access for Exclusive<T> {
    type Target = T;
}

impl<T: ?Sized> sealed::Access for Exclusive<T> {
    type Data = T;

    #[inline(always)]
    fn new(data: NonNull<T>) -> Self {
        Exclusive(data, PhantomData)
    }

    #[inline(always)]
    fn data(&self) -> NonNull<T> {
        self.0
    }
}

// A panic under exclusive access poisons the lock, which shows that the data may be inconsistent.
impl<T: ?Sized> UnwindSafe for Exclusive<T> {}
impl<T: ?Sized> RefUnwindSafe for Exclusive<T> {}

/// The mode of the owner of a [`PyMutex`](crate::PyMutex).
#[derive(Debug)]
pub enum Locked {}

/// The mode of a reader of a [`PyRwLock`](crate::PyRwLock).
#[derive(Debug)]
pub enum Reading {}

/// The mode of a writer of a [`PyRwLock`](crate::PyRwLock).
#[derive(Debug)]
pub enum Writing {}

/// Marks guards for all of the data of a lock.
#[derive(Debug)]
pub enum Whole {}

/// Marks guards for a part of the data, which may not exist any more once the lock was released.
#[derive(Debug)]
pub enum Part {}

/// A held lock, without the data.
struct Held<'a, M: Mode> {
    raw: &'a M::Raw,
    py: Python<'a>,
    /// `None` if the lock was released for a while and could not be acquired again.
    hold: Option<M::Hold>,
}

// The state of a lock is consistent whenever code of its users can panic.
impl<M: Mode> UnwindSafe for Held<'_, M> {}
impl<M: Mode> RefUnwindSafe for Held<'_, M> {}

impl<M: Mode> Held<'_, M> {
    #[inline]
    #[track_caller]
    fn assert_held(&self) {
        if self.hold.is_none() {
            not_held();
        }
    }

    #[inline]
    fn release(&mut self) {
        if let Some(hold) = self.hold.take() {
            // SAFETY:
            // - `hold` comes from acquiring this lock, on this thread, which `py` has not left.
            // - References to the data borrow from the guard around this, which is being dropped or
            //   is borrowed exclusively.
            unsafe { M::release(self.raw, self.py, hold) }
        }
    }

    fn reacquire(&mut self, caller: &'static Location<'static>) -> Result<(), Failure> {
        self.hold = Some(M::acquire(self.raw, self.py, caller)?);
        Ok(())
    }

    /// Runs `f` with the lock released, and acquires the lock again, even if `f` panics.
    #[track_caller]
    fn unlocked<R>(
        &mut self,
        caller: &'static Location<'static>,
        f: impl FnOnce() -> R,
    ) -> (R, Result<(), Failure>) {
        struct ReacquireOnPanic<'g, 'a, M: Mode>(&'g mut Held<'a, M>, &'static Location<'static>);
        impl<M: Mode> Drop for ReacquireOnPanic<'_, '_, M> {
            fn drop(&mut self) {
                // A second panic would abort. A guard that stays released panics on its next use.
                let _ = self.0.reacquire(self.1);
            }
        }
        self.assert_held();
        self.release();
        let on_panic = ReacquireOnPanic(self, caller);
        let result = f();
        mem::forget(on_panic);
        (result, self.reacquire(caller))
    }
}

impl<M: Mode> Drop for Held<'_, M> {
    #[inline]
    fn drop(&mut self) {
        self.release();
    }
}

#[cold]
#[track_caller]
fn not_held() -> ! {
    panic_with(
        &"this guard holds nothing: its lock was released for a while, and acquiring it again \
          would have been a deadlock",
        "do not use such a guard in destructors",
    )
}

/// A lock held by the current thread. It is released when the guard is dropped.
///
/// Use the names that the locks give to their guards: [`PyMutexGuard`](crate::PyMutexGuard),
/// [`PyRwLockReadGuard`](crate::PyRwLockReadGuard),
/// [`PyRwLockWriteGuard`](crate::PyRwLockWriteGuard), and the guards named `Mapped..`, which
/// [`map`](Guard::map) returns.
///
/// All methods are associated functions, called as `PyMutexGuard::map(guard, ..)`, because a method
/// would hide one of the same name of the data.
///
/// # Panics
///
/// A guard whose lock [`unlocked`](Guard::unlocked) could not acquire again holds nothing. Using it
/// panics; dropping it does nothing.
///
/// # Differences from `lock_api`
///
/// | in `lock_api` | here |
/// |---|---|
/// | `leak` | not available: the data would outlive the token |
/// | `unlock_fair`, `unlocked_fair`, `bump` | not needed: after 1 ms a waiter comes next |
/// | `try_map_or_err` | [`try_map`](Guard::try_map), whose closure stores the error |
/// | `mutex`, `rwlock` | not available: read guards are covariant, as those of `std` |
/// | `RwLockUpgradableReadGuard` | not available: drop the guard, lock to write, and check again |
#[must_use = "if unused the lock is released immediately"]
pub struct Guard<'a, M: Mode, A: Access, S = Whole> {
    held: Held<'a, M>,
    access: A,
    scope: PhantomData<S>,
}

// SAFETY: a reference to a guard leads to a reference to the data, hence `T: Sync`. The
// lock and the token are not reachable from it: dropping, mapping and unlocking need the guard
// itself.
unsafe impl<M: Mode, A: Access, S> Sync for Guard<'_, M, A, S> where A::Target: Sync {}

impl<'a, M: Mode, A: Access> Guard<'a, M, A> {
    /// # Safety
    ///
    /// - `hold` comes from acquiring `lock` on this thread.
    /// - `A` is [`Shared`] if the mode is that of readers.
    #[inline]
    pub(crate) unsafe fn new(lock: &'a M::Lock<A::Target>, py: Python<'a>, hold: M::Hold) -> Self {
        Guard {
            held: Held {
                raw: M::raw(lock),
                py,
                hold: Some(hold),
            },
            access: A::new(M::data(lock)),
            scope: PhantomData,
        }
    }

    /// Exchanges how the lock is held. The lock is not released in between.
    ///
    /// # Safety
    ///
    /// - `exchange` turns the one hold on the lock into the other.
    /// - `B` is [`Shared`] if the mode `N` is that of readers.
    #[track_caller]
    pub(crate) unsafe fn exchange<N: Mode<Raw = M::Raw>, B: Access<Target = A::Target>>(
        mut guard: Self,
        exchange: impl FnOnce(&M::Raw, Python<'_>, M::Hold) -> N::Hold,
    ) -> Guard<'a, N, B> {
        guard.held.assert_held();
        let Held { raw, py, .. } = guard.held;
        let hold = guard.held.hold.take().map(|hold| exchange(raw, py, hold));
        Guard {
            held: Held { raw, py, hold },
            access: B::new(guard.access.data()),
            scope: PhantomData,
        }
    }

    /// Runs `f` with the lock released, and acquires the lock again.
    ///
    /// For code under the lock that has to call back into Python. Other threads may have changed
    /// the data when `f` returns. A reader that holds the lock with another guard too keeps it
    /// locked.
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
    /// - If `f` panics. The lock is acquired again first, and is not poisoned. If the panic is
    ///   caught while this guard lives, later panics under the guard do not poison the lock either.
    /// - If acquiring the lock again would deadlock. The result of `f` is dropped.
    #[track_caller]
    pub fn unlocked<R>(guard: &mut Self, f: impl FnOnce() -> R) -> R {
        match guard.held.unlocked(Location::caller(), f) {
            (result, Ok(())) => result,
            (result, Err(failure)) => {
                // Before the panic, because it may be the guard of another lock, which a panic
                // would poison.
                drop(result);
                DeadlockError::new(guard.held.py, failure).panic()
            }
        }
    }

    /// [`unlocked`](Self::unlocked) for waits: returns the error of acquiring the lock again.
    #[track_caller]
    pub(crate) fn wait_unlocked<R>(
        guard: &mut Self,
        caller: &'static Location<'static>,
        wait: impl FnOnce(Python<'a>) -> R,
    ) -> (R, Result<(), Failure>) {
        let py = guard.held.py;
        guard.held.unlocked(caller, || wait(py))
    }
}

impl<'a, M: Mode, A: Access, S> Guard<'a, M, A, S> {
    #[track_caller]
    pub(crate) fn assert_held(guard: &Self) {
        guard.held.assert_held();
    }

    /// Returns the token of the guard.
    pub(crate) fn py(guard: &Self) -> Python<'a> {
        guard.held.py
    }

    pub(crate) fn is_held(guard: &Self) -> bool {
        guard.held.hold.is_some()
    }

    #[inline]
    fn part<B: Access>(self, data: NonNull<B::Target>) -> Guard<'a, M, B, Part> {
        Guard {
            held: self.held,
            access: B::new(data),
            scope: PhantomData,
        }
    }
}

impl<'a, M: Mode, T: ?Sized, S> Guard<'a, M, Shared<T>, S> {
    /// Creates a guard for a part of the data.
    ///
    /// ```
    /// # use pyo3::prelude::*;
    /// use pyo3_sync::{MappedPyRwLockReadGuard, PyRwLock, PyRwLockReadGuard};
    ///
    /// struct Config { name: String }
    ///
    /// fn name<'a>(
    ///     config: &'a PyRwLock<Config>,
    ///     py: Python<'a>,
    /// ) -> MappedPyRwLockReadGuard<'a, String> {
    ///     PyRwLockReadGuard::map(config.read(py), |config| &config.name)
    /// }
    /// ```
    pub fn map<U: ?Sized>(guard: Self, f: impl FnOnce(&T) -> &U) -> Guard<'a, M, Shared<U>, Part> {
        let data = NonNull::from(f(&guard));
        guard.part(data)
    }

    /// Creates a guard for a part of the data, if there is one.
    ///
    /// # Errors
    ///
    /// Returns the guard if `f` returns `None`.
    pub fn try_map<U: ?Sized>(
        guard: Self,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<Guard<'a, M, Shared<U>, Part>, Self> {
        match f(&guard).map(NonNull::from) {
            Some(data) => Ok(guard.part(data)),
            None => Err(guard),
        }
    }
}

impl<'a, M: Mode, T: ?Sized, S> Guard<'a, M, Exclusive<T>, S> {
    /// Creates a guard for a part of the data.
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
        mut guard: Self,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> Guard<'a, M, Exclusive<U>, Part> {
        let data = NonNull::from(f(&mut guard));
        guard.part(data)
    }

    /// Creates a guard for a part of the data, if there is one.
    ///
    /// # Errors
    ///
    /// Returns the guard if `f` returns `None`.
    pub fn try_map<U: ?Sized>(
        mut guard: Self,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<Guard<'a, M, Exclusive<U>, Part>, Self> {
        match f(&mut guard).map(NonNull::from) {
            Some(data) => Ok(guard.part(data)),
            None => Err(guard),
        }
    }
}

impl<'a, M: Mode, A: Access> From<Guard<'a, M, A>> for Guard<'a, M, A, Part> {
    fn from(guard: Guard<'a, M, A>) -> Self {
        guard.held.assert_held();
        let data = guard.access.data();
        guard.part(data)
    }
}

impl<M: Mode, A: Access, S> Deref for Guard<'_, M, A, S> {
    type Target = A::Target;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &A::Target {
        self.held.assert_held();
        // SAFETY:
        // - The pointer comes from the lock, or from a reference that a guard of the lock gave out.
        // - The lock is held, so no other thread has an exclusive reference, by the contract of
        //   `Mode`. Those of this thread borrow from this guard.
        unsafe { self.access.data().as_ref() }
    }
}

impl<M: Mode, T: ?Sized, S> DerefMut for Guard<'_, M, Exclusive<T>, S> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.held.assert_held();
        // SAFETY:
        // - The pointer comes from the lock, or from an exclusive reference that a guard of the
        //   lock gave out.
        // - The lock is held and its mode is not that of readers, by the contract of `new`, so no
        //   other thread has a reference. Those of this thread borrow from this guard.
        unsafe { self.access.data().as_mut() }
    }
}

/// Shows the data, or `<not held>` if the lock could not be acquired again.
impl<M: Mode, A: Access, S> fmt::Debug for Guard<'_, M, A, S>
where
    A::Target: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Guard::is_held(self) {
            true => (**self).fmt(f),
            false => f.write_str("<not held>"),
        }
    }
}

impl<M: Mode, A: Access, S> fmt::Display for Guard<'_, M, A, S>
where
    A::Target: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Remembers whether the thread was panicking when it acquired the lock. If so, the panic is not
/// one of code under the lock.
#[derive(Debug)]
pub(crate) struct PoisonOnPanic {
    pub(crate) was_panicking: bool,
}

impl PoisonOnPanic {
    #[inline]
    pub(crate) fn new() -> Self {
        PoisonOnPanic {
            was_panicking: thread::panicking(),
        }
    }
}

/// A lock in an [`Arc`], held by the current thread. It is released when the guard is dropped.
///
/// The guard owns a reference to the lock. It still lives no longer than its token.
#[must_use = "if unused the lock is released immediately"]
pub struct ArcGuard<'py, M: Mode, T: ?Sized> {
    lock: Arc<M::Lock<T>>,
    py: Python<'py>,
    /// `None` only while the guard is being dropped.
    hold: Option<M::Hold>,
}

// SAFETY: a reference to a guard leads to a reference to the data, hence `T: Sync`; and
// one to the `Arc`, through which another thread can lock later, or drop the data, hence `T: Send`.
unsafe impl<M: Mode, T: ?Sized + Send + Sync> Sync for ArcGuard<'_, M, T> {}

// As for `Held` and `Exclusive`.
impl<M: Mode, T: ?Sized> UnwindSafe for ArcGuard<'_, M, T> {}
impl<M: Mode, T: ?Sized> RefUnwindSafe for ArcGuard<'_, M, T> {}

impl<'py, M: Mode, T: ?Sized> ArcGuard<'py, M, T> {
    /// Converts a guard of `lock`.
    #[inline]
    #[track_caller]
    pub(crate) fn from_guard<A: Access<Target = T>>(
        mut guard: Guard<'_, M, A>,
        lock: &Arc<M::Lock<T>>,
        py: Python<'py>,
    ) -> Self {
        guard.held.assert_held();
        assert!(
            ptr::eq(guard.held.raw, M::raw(lock)),
            "the guard belongs to another lock than the `Arc`"
        );
        ArcGuard {
            hold: guard.held.hold.take(),
            lock: Arc::clone(lock),
            py,
        }
    }

    /// Exchanges how the lock is held. The lock is not released in between.
    ///
    /// # Safety
    ///
    /// `exchange` turns the one hold on the lock into the other.
    pub(crate) unsafe fn exchange<N: Mode<Lock<T> = M::Lock<T>, Raw = M::Raw>>(
        mut guard: Self,
        exchange: impl FnOnce(&M::Raw, Python<'_>, M::Hold) -> N::Hold,
    ) -> ArcGuard<'py, N, T> {
        let lock = Arc::clone(&guard.lock);
        let hold = guard.hold.take();
        ArcGuard {
            hold: hold.map(|hold| exchange(M::raw(&lock), guard.py, hold)),
            py: guard.py,
            lock,
        }
    }

    pub(crate) fn lock(guard: &Self) -> &Arc<M::Lock<T>> {
        &guard.lock
    }
}

impl<M: Mode, T: ?Sized> Deref for ArcGuard<'_, M, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held until this guard is dropped, so no other thread has an exclusive
        // reference, by the contract of `Mode`. Those of this thread borrow from this guard.
        unsafe { M::data(&self.lock).as_ref() }
    }
}

impl<M: ExclusiveMode, T: ?Sized> DerefMut for ArcGuard<'_, M, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; and the mode is exclusive, so no other thread has a reference.
        unsafe { M::data(&self.lock).as_mut() }
    }
}

impl<M: Mode, T: ?Sized> Drop for ArcGuard<'_, M, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            // SAFETY:
            // - `hold` comes from acquiring this lock, on this thread, which `py` has not left.
            // - References to the data borrow from this guard, which is being dropped.
            unsafe { M::release(M::raw(&self.lock), self.py, hold) }
        }
    }
}

impl<M: Mode, T: ?Sized + fmt::Debug> fmt::Debug for ArcGuard<'_, M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<M: Mode, T: ?Sized + fmt::Display> fmt::Display for ArcGuard<'_, M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
