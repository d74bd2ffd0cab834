//! Locks and once-cells for [PyO3](pyo3) extensions that know about the Python interpreter.
//!
//! They do what the GIL used to do without being asked: where there is a GIL they cost next to nothing, on free-threaded
//! Python they are as fast as other locks, and on both a thread that has to wait lets the interpreter go on. What would
//! have been a hang is an error that says what happened: see [`deadlocks`].
//!
//! ```
//! use pyo3::{prelude::*, types::PyType};
//! use pyo3_sync::{PyMutex, PyOnceLock};
//!
//! /// Imported by the first thread that needs it.
//! static FRACTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
//! /// Shared by all threads.
//! static SEEN: PyMutex<Vec<u64>> = PyMutex::new(Vec::new());
//!
//! #[pyfunction]
//! fn half<'py>(py: Python<'py>, number: u64) -> PyResult<Bound<'py, PyAny>> {
//!     SEEN.lock_checked(py)?.push(number);
//!     FRACTION.import(py, "fractions", "Fraction")?.call1((number, 2))
//! }
//!
//! #[pymodule(gil_used = false)]
//! fn my_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
//!     pyo3_sync::ensure_single_interpreter(module)?; // The statics above serve one interpreter.
//!     module.add_function(wrap_pyfunction!(half, module)?)
//! }
//! # Python::initialize();
//! # Python::attach(|py| assert_eq!(half(py, 3).unwrap().to_string(), "3/2"));
//! ```
//!
//! # Which one to use
//!
//! | you have | use |
//! |---|---|
//! | a value that is made once, and whose making calls into Python | [`PyOnceLock`] |
//! | the same, where the making re-enters itself, or may happen in several threads as with `GILOnceCell` | [`compat::GILOnceCell`] |
//! | a value with the function that makes it | [`PyLazy`], or [`PyTryLazy`] if that may fail |
//! | a module, or something in it, imported when first needed | [`PyImport`]; [`PyOnceLock::import`] where a cell is there already |
//! | something that is done once | [`PyOnce`] |
//! | data that threads change, with something that must be true of all of it between changes | [`PyMutex`] |
//! | data that are read often and changed seldom | [`PyRwLock`] |
//! | a thread that waits until another one has changed something | [`PyCondvar`], with a [`PyMutex`] |
//! | threads that go on together | [`PyBarrier`] |
//! | data that threads touch in small steps, with calls into Python in between; a `GILProtected` | [`PyProtected`] |
//! | all the global state of an extension that relied on the GIL | one [`PyProtected`]: [a local GIL](critical_section#a-local-gil) |
//! | several operations on a list or dictionary that belong together | [`with_critical_section`](critical_section::with_critical_section) |
//! | data behind a lock, used from `Clone` or `Serialize`, without a token | [`PyMutex::try_with_attached`] |
//! | Python objects behind a lock, in a class of yours | [`PyMutex::traverse`], [`PyOnceLock::traverse`], [`PyProtected::traverse`] in `__traverse__` |
//! | data that threads use which are never attached to Python | `std` or `parking_lot`, whose locks attached threads take with [`ext`] |
//! | classes, caches and settings that belong to a module object, and go with it | [`ModuleState`] |
//! | statics that two interpreters of one process must not share | [`ensure_single_interpreter`] |
//!
//! For extensions written when there was a GIL there is a guide: [`migration`].
//!
//! # What holds for all of them
//!
//! - **Attached threads only.** A lock is taken with a token and its guard lives no longer, so the owner of a lock was
//!   attached when it took it and is when it releases it. It may detach in between, lending what it guards: first example
//!   of [`PyMutex`].
//! - **Nobody waits attached.** The GIL, the garbage collector and `fork` go on while a thread waits.
//! - **Nobody detaches without need.** A lock that is free, and a cell that nobody else is filling, leave the interpreter
//!   alone; the critical sections around are not suspended.
//! - **Nobody owns a lock while it waits for the interpreter.** A thread that was woken attaches first, and takes the lock
//!   then.
//! - **Waits that cannot end are reported**: [`deadlocks`].
//! - **Time limits are never early.** They may be late by the time it takes to attach again.
//! - **The child of a fork** uses everything that other threads did not hold.
//!
//! # Where what holds
//!
//! | | |
//! |---|---|
//! | CPython 3.9 to 3.15, with and without a GIL | everything |
//! | `abi3` | everything, as on a GIL build |
//! | `abi3t` | everything, as on a free-threaded build |
//! | several module objects of one extension, each with a [`ModuleState`] | PyO3 0.28 and later; before, an import gives the same one again |
//! | fork | unix |
//! | one interpreter in a process | required: [`ensure_single_interpreter`] |
//!
//! More, and other systems than Linux, in [`platforms`].
//!
//! # Words
//!
//! A thread that has a [`Python<'py>`](pyo3::Python) token is *attached* to the interpreter, otherwise *detached*. On a GIL
//! build, attached means: owning the GIL. On a free-threaded build many threads are attached at a time, and the
//! interpreter *stops the world* now and then, waiting until all of them are detached or at a safe point.
#![warn(missing_docs)]

#[cfg(not(target_has_atomic = "64"))]
compile_error!("pyo3-sync needs atomic integers of 64 bits, which this target does not have");

mod barrier;
mod build_config;
pub mod compat;
mod condvar;
pub mod critical_section;
mod deadlock;
pub mod ext;
pub mod guard;
mod import;
mod lazy;
mod module_state;
mod mutex;
mod once;
mod once_lock;
mod protected;
mod rwlock;
mod single_interpreter;
mod thread_label;
mod wait;

#[doc = include_str!("../docs/deadlocks.md")]
pub mod deadlocks {
    #[allow(unused_imports, reason = "for the links of the text")]
    use crate::{
        DeadlockError, PyBarrier, PyCondvar, PyImport, PyLazy, PyMutex, PyMutexGuard, PyOnce,
        PyOnceLock, PyProtected, PyRwLock, PyTryLazy, TryAttachedError, add_exceptions, exceptions,
    };
}

#[doc = include_str!("../docs/platforms.md")]
pub mod platforms {}

#[doc = include_str!("../MIGRATION.md")]
pub mod migration {}

pub use barrier::{PyBarrier, PyBarrierWaitResult};
pub use condvar::{PyCondvar, WaitTimeoutResult};
pub use deadlock::{DeadlockError, add_exceptions, exceptions};
pub use import::PyImport;
pub use lazy::{PyLazy, PyTryLazy};
pub use module_state::{ModuleData, ModuleState, StateHandle, StateRef};
pub use mutex::{ArcPyMutexGuard, MappedPyMutexGuard, PyMutex, PyMutexGuard, TryAttachedError};
pub use once::{PyOnce, PyOnceState};
pub use once_lock::PyOnceLock;
pub use protected::{ProtectedBorrowError, PyProtected};
pub use rwlock::{
    ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard,
    PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard,
};
pub use single_interpreter::ensure_single_interpreter;
