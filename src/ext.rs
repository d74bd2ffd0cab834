//! Locks of `std` and `lock_api` for attached threads: when other threads use them that are never attached.
//!
//! The locks of this crate are for threads that are attached to the interpreter. Data that Rust threads of your own share with
//! Python stay behind a lock of `std` or `parking_lot`, and there is one rule to keep: **an attached thread must not block in it**, since
//! the owner may be waiting for the interpreter that the blocked thread keeps to itself. The traits of this module block
//! for it, detached:
//!
//! ```
//! use pyo3::prelude::*;
//! use pyo3_sync::ext::MutexExt;
//! use std::sync::{Arc, Mutex};
//!
//! #[pyclass(frozen)]
//! struct Progress {
//!     /// Counted by Rust threads, which do not know of Python.
//!     done: Arc<Mutex<usize>>,
//! }
//!
//! #[pymethods]
//! impl Progress {
//!     fn done(&self, py: Python<'_>) -> usize {
//!         *self.done.lock_attached(py).unwrap()
//!     }
//! }
//! # Python::initialize();
//! # Python::attach(|py| assert_eq!(Progress { done: Arc::default() }.done(py), 0));
//! ```
//!
//! Detached threads go on to call `lock`, `read` and `wait` as ever.
//!
//! # Which lock for what
//!
//! | who touches the data | they hold `Py<_>` | something must hold across calls into Python | use |
//! |---|---|---|---|
//! | attached threads only | either | no | [`PyProtected`](crate::PyProtected) |
//! | attached threads only | either | yes | [`PyMutex`](crate::PyMutex), [`PyRwLock`](crate::PyRwLock) |
//! | detached threads too | no | no | a lock of `std` or `parking_lot`; attached threads take it with these traits and give it back before they call into Python |
//! | detached threads too | no | yes | a [`PyMutex`](crate::PyMutex), for which those threads attach ([`try_with_attached`](crate::PyMutex::try_with_attached)); or, if they must not, a lock of `std` around data with a mark "in use" among them, which is set, and the lock given back, before Python is called |
//! | detached threads too | yes | either | a [`PyMutex`](crate::PyMutex), for which those threads attach: to do anything with a `Py<_>` they have to anyway |
//!
//! One piece of data, one kind of lock. Where the two kinds meet, take that of this crate first and the foreign one last, and call nothing
//! of Python's while you own the foreign one: then neither can be part of a cycle with the other.
//!
//! # What they do
//!
//! An attached thread tries the lock. If it is taken, the thread detaches, waits until it could have it, *gives it
//! back*, attaches, and tries again. That is the difference to the traits of the same names in `pyo3::sync`, which attach
//! with the lock in their hands: whoever is attached then, and waits for that lock in any other way, waits for ever; and at exit, when
//! threads cannot attach any more, the lock is lost. `cargo run --example deadlocks` shows both.
//!
//! [`OnceExt`] and [`OnceLockExt`] cannot do that, since a cell cannot be given back. They are
//! PyO3's, under names like the others': a thread that waits does so detached, and who initialises attaches inside. Prefer
//! [`PyOnce`](crate::PyOnce) and [`PyOnceLock`](crate::PyOnceLock), which need not detach at all.
//!
//! # What is not detected
//!
//! These locks do not tell who owns them. None of the following is reported as [a deadlock](crate::deadlocks); the thread waits, detached,
//! for ever:
//!
//! - a thread that takes a lock again which it owns already, for example when code under the lock calls into Python and comes back;
//! - a cycle that runs through such a lock, even if the rest of it is of this crate;
//! - a lock that somebody owned who is gone: in the child of a fork, or after a guard was forgotten.
//!
//! Ctrl-C does not end such a wait. Nor is there fairness beyond that of the lock itself: a thread that waited has to come in time
//! once it has attached, and starts over if it does not.
//!
//! # At exit
//!
//! A thread that waits here when the interpreter shuts down owns nothing, and does not come back. It detaches as
//! [`Python::detach`] does, unlike one that waits for a lock of this crate: with PyO3 before 0.29, on Python before 3.14, a thread that
//! comes back from that while the interpreter is shutting down aborts the process. There, end such threads in an `atexit` function, or
//! use a newer PyO3.
//!
//! # Time limits
//!
//! Not here, since the wait for the lock and the wait to attach would need one together. A thread that asks again and again has one:
//!
//! ```
//! use pyo3::prelude::*;
//! use std::{
//!     sync::{Mutex, MutexGuard, TryLockError},
//!     thread,
//!     time::{Duration, Instant},
//! };
//!
//! fn lock_for<'a, T>(py: Python<'_>, mutex: &'a Mutex<T>, limit: Duration) -> Option<MutexGuard<'a, T>> {
//!     let start = Instant::now();
//!     loop {
//!         match mutex.try_lock() {
//!             Ok(guard) => return Some(guard),
//!             Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
//!             Err(TryLockError::WouldBlock) if start.elapsed() >= limit => return None,
//!             Err(TryLockError::WouldBlock) => py.detach(|| thread::sleep(Duration::from_millis(1))),
//!         }
//!     }
//! }
//! # Python::initialize();
//! # Python::attach(|py| assert!(lock_for(py, &Mutex::new(1), Duration::ZERO).is_some()));
//! ```
//!
//! # Not here
//!
//! - `parking_lot::Once` and `parking_lot::Condvar`, which are not types of `lock_api`, and `OnceLock::wait`: `py.detach(|| ..)` around
//!   the wait, in a function that is given no guard, does for them what these traits do.
//! - Upgradable reads.
//! - `LazyLock`: [`PyLazy`](crate::PyLazy).
//! - `pyo3::sync::MutexExt` for `pyo3::sync::PyMutex`: that mutex detaches by itself.

mod barrier;
mod condvar;
#[cfg(feature = "lock_api")]
mod lock_api;
mod mutex;
mod once;
mod rwlock;

use std::sync::{TryLockError, TryLockResult, atomic::AtomicPtr};

use pyo3::Python;

#[cfg(feature = "lock_api")]
pub use self::lock_api::{MutexArcExt, RwLockArcExt};
pub use self::{
    barrier::BarrierExt,
    condvar::CondvarExt,
    mutex::MutexExt,
    once::{OnceExt, OnceLockExt},
    rwlock::RwLockExt,
};

/// The traits are for the types that they are implemented for here: methods can be added to them.
mod sealed {
    pub trait Sealed {}
}

/// Takes a lock while attached. `wait_for_turn` waits until it could be had, and gives it back.
///
/// This is what all the traits do that take a lock.
#[inline]
fn take_attached<Guard>(
    py: Python<'_>,
    try_take: impl Fn() -> Option<Guard>,
    wait_for_turn: impl Fn(),
) -> Guard {
    loop {
        if let Some(guard) = try_take() {
            return guard;
        }
        detached(py, &wait_for_turn);
    }
}

/// Runs `wait` detached, with whatever it has captured.
///
/// [`Python::detach`] wants to be sure that nothing is captured that needs an attached thread, and the data behind a lock may
/// well do. They are not touched: nobody but `wait` runs, which is this module's and only waits for the lock.
///
/// Not by [the pair of raw calls](crate::wait) that our own locks use: foreign ones run foreign code, which may attach (a panic hook does, if
/// such a lock panics), and PyO3 has to know that it needs to.
#[cold]
fn detached(py: Python<'_>, wait: &dyn Fn()) {
    // A pointer that says nothing of what is captured, which neither `Send` nor the `Ungil` of PyO3's feature `nightly` minds.
    let erased = AtomicPtr::new((&raw const wait).cast_mut().cast::<()>());
    py.detach(move || {
        // SAFETY: it points to the parameter `wait`, which outlives this closure: `detach` runs it before it returns,
        // on this thread. What it captures is used by the thread it belongs to, and not by Python's leave.
        let wait = unsafe { *erased.into_inner().cast::<&dyn Fn()>() };
        wait();
    });
}

/// What an attempt got, poisoned or not; `None` if the lock is taken.
fn unless_taken<Guard>(attempt: TryLockResult<Guard>) -> Option<std::sync::LockResult<Guard>> {
    match attempt {
        Ok(guard) => Some(Ok(guard)),
        Err(TryLockError::Poisoned(poisoned)) => Some(Err(poisoned)),
        Err(TryLockError::WouldBlock) => None,
    }
}
