//! Locks and once-cells for [PyO3](pyo3) extensions.
//!
//! They replace the implicit synchronization of the GIL. On GIL builds they cost next to nothing.
//! On free-threaded Python they are as fast as other locks. A thread that waits detaches from the
//! interpreter, and [deadlocks] are reported as errors.
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
//! # Which type to use
//!
//! | use case | type |
//! |---|---|
//! | a value initialized once, by code that calls into Python | [`PyOnceLock`] |
//! | the same, if it is re-entrant or may run on several threads | [`compat::GILOnceCell`] |
//! | a value with its initializer | [`PyLazy`], or [`PyTryLazy`] if it can fail |
//! | an imported module or attribute | [`PyImport`]; with a cell, [`PyOnceLock::import`] |
//! | code that runs once | [`PyOnce`] |
//! | shared data with an invariant | [`PyMutex`] |
//! | data often read and rarely written | [`PyRwLock`] |
//! | a value often read and rarely replaced, such as settings | [`PySnapshot`] |
//! | waiting for a change by another thread | [`PyCondvar`], with a [`PyMutex`] |
//! | threads that rendezvous | [`PyBarrier`] |
//! | a timeout, or a wait that Ctrl-C interrupts | [`Wait`], in [`PyMutex::lock_with`] and others |
//! | short accesses between calls into Python; `GILProtected` | [`PyProtected`] |
//! | all global state of an extension | a [local GIL](critical_section#a-local-gil) |
//! | several operations on one object | [`with_critical_section`] |
//! | locking without a token, as in `Clone` | [`PyMutex::try_with_attached`] |
//! | Python objects behind a lock of a class | [`PyMutex::traverse`] in `__traverse__` |
//! | data shared with threads that never attach | `std` or `parking_lot`, with [`ext`] |
//! | state that belongs to a module object | [`ModuleState`] |
//! | statics for one interpreter only | [`ensure_single_interpreter`] |
//!
//! [`PyOnceLock::traverse`] and [`PyProtected::traverse`] exist too.
//!
//! For extensions that relied on the GIL, see [`migration`].
//!
//! # Guarantees
//!
//! - **Only attached threads lock.** Locking takes a token, and the guard cannot outlive it. The
//!   owner may detach in between, lending the data: see the first example of [`PyMutex`].
//! - **No thread waits attached.** The GIL, the garbage collector and `fork` can proceed.
//! - **No thread detaches unless it has to wait.** Uncontended operations do not suspend critical
//!   sections.
//! - **No thread holds a lock while waiting to attach.** A woken waiter attaches first.
//! - **Waits that can never end are reported**: see [`deadlocks`].
//! - **Timeouts never fire early.** They may be late by the time it takes to attach.
//! - **A forked child** can use everything that other threads did not hold.
//!
//! # Platform support
//!
//! | | |
//! |---|---|
//! | CPython 3.9 to 3.15, with and without a GIL | everything |
//! | `abi3` | everything, as on a GIL build |
//! | `abi3t` | everything, as on a free-threaded build |
//! | several module objects, each with a [`ModuleState`] | PyO3 0.28 and later |
//! | fork | Unix |
//! | one interpreter per process | required: [`ensure_single_interpreter`] |
//!
//! Before PyO3 0.28, another import returns the same module object. See [`platforms`] for details
//! and for systems other than Linux.
//!
//! # Terminology
//!
//! A thread that has a [`Python<'py>`](pyo3::Python) token is *attached* to the interpreter,
//! otherwise *detached*. On a GIL build, an attached thread owns the GIL. On a free-threaded build,
//! many threads can be attached. The interpreter sometimes *stops the world*: it waits until all
//! threads are detached or at a safe point.
//!
//! [`with_critical_section`]: critical_section::with_critical_section
#![warn(missing_docs)]

#[cfg(not(target_has_atomic = "64"))]
compile_error!("pyo3-sync needs atomic integers of 64 bits, which this target does not have");

mod barrier;
pub mod compat;
mod condvar;
pub mod critical_section;
mod error;
pub mod ext;
pub mod guard;
mod import;
mod lazy;
mod module_state;
mod mutex;
mod once;
mod once_lock;
mod protected;
mod python;
mod rwlock;
mod single_interpreter;
mod snapshot;
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
pub use condvar::PyCondvar;
pub use error::{DeadlockError, TryAttachedError, WaitError, add_exceptions, exceptions};
pub use import::PyImport;
pub use lazy::{PyLazy, PyTryLazy};
pub use module_state::{ModuleData, ModuleState, StateHandle, StateRef};
pub use mutex::{ArcPyMutexGuard, MappedPyMutexGuard, PyMutex, PyMutexGuard};
pub use once::{PyOnce, PyOnceState};
pub use once_lock::PyOnceLock;
pub use protected::{ProtectedBorrowError, PyProtected};
pub use rwlock::{
    ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard,
    PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard,
};
pub use single_interpreter::ensure_single_interpreter;
pub use snapshot::{PySnapshot, PySnapshotGuard};
pub use wait::Wait;
