//! Extension traits that lock `std` and `lock_api` types from attached threads.
//!
//! Rust threads that never attach to the interpreter share data behind a lock of `std` or
//! `parking_lot`. **An attached thread must not block on such a lock**: the owner may be waiting to
//! attach, and the two threads then wait for each other. The methods of these traits detach before
//! they block.
//!
//! ```
//! use pyo3::prelude::*;
//! use pyo3_sync::ext::MutexExt;
//! use std::sync::{Arc, Mutex};
//!
//! #[pyclass(frozen)]
//! struct Progress {
//!     /// Incremented by Rust threads that never attach.
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
//! Detached threads call `lock`, `read` and `wait` directly.
//!
//! # Choosing a lock
//!
//! | accessed by | contains `Py<_>` | invariant spans calls into Python | use |
//! |---|---|---|---|
//! | attached threads | yes or no | no | [`PyProtected`] |
//! | attached threads | yes or no | yes | [`PyMutex`], [`PyRwLock`] |
//! | all threads | no | no | `std` or `parking_lot`, with these traits |
//! | all threads | no | yes | [`PyMutex`]; detached threads attach ([`try_with_attached`]) |
//! | all threads | yes | yes or no | [`PyMutex`]; using a `Py<_>` requires attaching anyway |
//!
//! In the third row, attached threads release the lock before they call into Python. In the fourth
//! row, threads that cannot attach need a lock of `std` around data with an "in use" flag: an
//! attached thread sets the flag and releases the lock before it calls into Python.
//!
//! Protect each piece of data with one kind of lock. A thread that needs both kinds acquires the
//! lock of this crate first, and does not call into Python while it holds the other one. This order
//! rules out a deadlock between the two.
//!
//! [`PyMutex`]: crate::PyMutex
//! [`PyProtected`]: crate::PyProtected
//! [`PyRwLock`]: crate::PyRwLock
//! [`try_with_attached`]: crate::PyMutex::try_with_attached
//!
//! # Blocking
//!
//! Each method tries to acquire the lock. If the lock is held, the thread detaches, blocks until it
//! has acquired the lock, *releases it*, attaches, and tries again. No thread waits to attach while
//! it holds the lock.
//!
//! The traits of the same names in `pyo3::sync` attach while they hold the lock. An attached thread
//! that then blocks on the lock without detaching deadlocks. During finalization, when threads can
//! no longer attach, the lock is never released. `cargo run --example deadlocks` shows both.
//!
//! [`OnceExt`] and [`OnceLockExt`] forward to PyO3's traits, because a thread cannot release a cell
//! that it has started to initialize: waiters block detached, and the initializer attaches to run
//! its closure. Prefer [`PyOnce`](crate::PyOnce) and [`PyOnceLock`](crate::PyOnceLock), which
//! detach only to wait.
//!
//! # Deadlocks
//!
//! These locks do not record their owner, so [deadlocks](crate::deadlocks) are not reported. The
//! thread blocks forever, detached, and signals do not interrupt it, if
//!
//! - it already holds the lock, for example because code under the lock called into Python, which
//!   called back;
//! - its wait closes a cycle that includes such a lock, even if all other locks are of this crate;
//! - the owner was lost to a fork, or a guard was forgotten.
//!
//! # Fairness
//!
//! A thread that has attached after a wait contends for the lock again, and blocks again if another
//! thread acquires it first. Otherwise the lock itself determines the order.
//!
//! # Finalization
//!
//! A thread that waits here during finalization holds no lock and never resumes. It detaches with
//! [`Python::detach`], unlike a thread that waits for a lock of this crate: with PyO3 before 0.29
//! and Python before 3.14, the process aborts when such a thread attaches during finalization. On
//! those versions, stop the threads in an `atexit` function, or upgrade PyO3.
//!
//! # Timeouts
//!
//! There are no timed methods, because one timeout would have to cover both the wait for the lock
//! and the wait to attach. Poll instead:
//!
//! ```
//! use pyo3::prelude::*;
//! use std::{
//!     sync::{Mutex, MutexGuard, TryLockError},
//!     thread,
//!     time::{Duration, Instant},
//! };
//!
//! fn lock_for<'a, T>(
//!     py: Python<'_>,
//!     mutex: &'a Mutex<T>,
//!     timeout: Duration,
//! ) -> Option<MutexGuard<'a, T>> {
//!     let start = Instant::now();
//!     loop {
//!         match mutex.try_lock() {
//!             Ok(guard) => return Some(guard),
//!             Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
//!             Err(TryLockError::WouldBlock) if start.elapsed() >= timeout => return None,
//!             Err(TryLockError::WouldBlock) => {
//!                 py.detach(|| thread::sleep(Duration::from_millis(1)))
//!             }
//!         }
//!     }
//! }
//! # Python::initialize();
//! # Python::attach(|py| assert!(lock_for(py, &Mutex::new(1), Duration::ZERO).is_some()));
//! ```
//!
//! # Differences from `std`, `parking_lot` and `pyo3::sync`
//!
//! | not provided | instead |
//! |---|---|
//! | timed methods | poll, as under [Timeouts](#timeouts) |
//! | upgradable reads | none |
//! | `OnceLock::wait`; `Once` and `Condvar` of `parking_lot` | `py.detach` around lock and wait |
//! | `LazyLock` | [`PyLazy`](crate::PyLazy) |
//! | `MutexExt` for `pyo3::sync::PyMutex` | `PyMutex::lock` of PyO3, which detaches |

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
    condvar::{CondvarExt, WaitTimeoutResult},
    mutex::MutexExt,
    once::{OnceExt, OnceLockExt},
    rwlock::RwLockExt,
};

/// Seals the traits, so that adding methods is not a breaking change.
mod sealed {
    pub trait Sealed {}
}

/// Acquires a lock while attached. `block` waits, detached, until the lock is available.
///
/// `block` must release the lock before it returns (invariant I3).
#[inline]
fn acquire_attached<Guard>(
    py: Python<'_>,
    try_acquire: impl Fn() -> Option<Guard>,
    block: impl Fn(),
) -> Guard {
    loop {
        if let Some(guard) = try_acquire() {
            return guard;
        }
        detach_unchecked(py, &block);
    }
}

/// Runs `wait` detached, without the bounds of [`Python::detach`] on its captures.
///
/// `wait` must block only, and not access data that requires an attached thread.
///
/// [The raw calls](crate::wait) that the locks of this crate use do not suit foreign locks. These
/// may run code that attaches, such as a panic hook, and PyO3 then has to know that the thread is
/// detached.
#[cold]
fn detach_unchecked(py: Python<'_>, wait: &dyn Fn()) {
    // The pointer satisfies `Send`, and `Ungil` under PyO3's feature `nightly`.
    let erased = AtomicPtr::new((&raw const wait).cast_mut().cast::<()>());
    py.detach(move || {
        // SAFETY:
        // - The pointer is to the parameter `wait`, which outlives this closure: `detach` runs the
        //   closure before it returns.
        // - `detach` runs the closure on the calling thread, so no capture moves to another thread.
        // - No capture is used that requires an attached thread: guaranteed by the caller.
        let wait = unsafe { *erased.into_inner().cast::<&dyn Fn()>() };
        wait();
    });
}

/// Maps `WouldBlock` to `None`. Keeps the guard of a poisoned lock.
fn ignore_would_block<Guard>(
    attempt: TryLockResult<Guard>,
) -> Option<std::sync::LockResult<Guard>> {
    match attempt {
        Ok(guard) => Some(Ok(guard)),
        Err(TryLockError::Poisoned(poisoned)) => Some(Err(poisoned)),
        Err(TryLockError::WouldBlock) => None,
    }
}
