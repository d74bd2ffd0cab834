//! Which threads may have a type of this crate, and what else the compiler derives for it: the whole table.
//!
//! A row is a type, with data of some kind; it names the traits that the type has, and has a dash for each that it must not have. `Send` and `Sync`
//! decide what is sound; `UnwindSafe` and `RefUnwindSafe` what may be carried out of a panic; a guard that is `Clone` would unlock twice.
//! The compiler checks every place of it, so there is nothing to run. `tests/compile_fail` has programs that show what would go wrong, and its
//! test fails for a public type that has no row here.
//!
//! The rows for data that lack something are the twins of those that have it.
#![allow(
    deprecated,
    reason = "`GILProtected`, which warns of itself, has rows too"
)]

use std::{
    cell::Cell,
    fmt::Debug,
    marker::PhantomPinned,
    panic::{RefUnwindSafe, UnwindSafe},
    rc::Rc,
    sync::MutexGuard,
};

use pyo3::prelude::*;
use pyo3_sync::{
    ArcPyMutexGuard, ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, DeadlockError,
    MappedPyMutexGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard, ModuleData, ModuleState,
    ProtectedBorrowError, PyBarrier, PyBarrierWaitResult, PyCondvar, PyImport, PyLazy, PyMutex,
    PyMutexGuard, PyOnce, PyOnceLock, PyOnceState, PyProtected, PyRwLock, PyRwLockReadGuard,
    PyRwLockWriteGuard, PySnapshot, PySnapshotGuard, PyTryLazy, StateHandle, StateRef,
    TryAttachedError, Wait, WaitError,
    compat::{GILOnceCell, GILProtected},
    critical_section::{EnteredCriticalSection, ProtectedRef, ProtectedRefMut},
    ext,
    guard::{ArcGuard, Exclusive, Guard, Locked, Part, Reading, Shared, Whole, Writing},
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// `Send`; neither `Sync` nor `RefUnwindSafe`.
type NotSync = Cell<i32>;
/// `Sync`, not `Send`.
type NotSend = MutexGuard<'static, i32>;
/// Neither.
type Neither = Rc<i32>;
/// Not `UnwindSafe`.
type NotUnwindSafe = &'static mut i32;
/// Not `Unpin`.
type NotUnpin = PhantomPinned;

struct State;
impl ModuleData for State {}

macro_rules! table {
    ($($type:ty: $send:tt $sync:tt $unpin:tt $unwind_safe:tt $ref_unwind_safe:tt $clone:tt $copy:tt;)*) => {
        $(
            place!($type, Send, $send);
            place!($type, Sync, $sync);
            place!($type, Unpin, $unpin);
            place!($type, UnwindSafe, $unwind_safe);
            place!($type, RefUnwindSafe, $ref_unwind_safe);
            place!($type, Clone, $clone);
            place!($type, Copy, $copy);
        )*
    };
}

/// The name of the trait, or a dash, stands in the column of the trait.
macro_rules! place {
    ($type:ty, $trait:ident, -) => {
        assert_not_impl_any!($type: $trait);
    };
    ($type:ty, Send, Send) => { assert_impl_all!($type: Send); };
    ($type:ty, Sync, Sync) => { assert_impl_all!($type: Sync); };
    ($type:ty, Unpin, Unpin) => { assert_impl_all!($type: Unpin); };
    ($type:ty, UnwindSafe, UnwindSafe) => { assert_impl_all!($type: UnwindSafe); };
    ($type:ty, RefUnwindSafe, RefUnwindSafe) => { assert_impl_all!($type: RefUnwindSafe); };
    ($type:ty, Clone, Clone) => { assert_impl_all!($type: Clone); };
    ($type:ty, Copy, Copy) => { assert_impl_all!($type: Copy); };
}

table! {
    // A cell shares its value with all threads at once, and any of them may fill it or have it to drop. A panic leaves it empty, and it shows
    // what its value shows.
    PyOnceLock<i32>:            Send Sync Unpin UnwindSafe RefUnwindSafe Clone -;
    PyOnceLock<NotSync>:        Send -    Unpin UnwindSafe -             Clone -;
    PyOnceLock<NotSend>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyOnceLock<Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe Clone -;
    PyOnceLock<NotUnwindSafe>:  Send Sync Unpin -          -             -     -;
    PyOnceLock<NotUnpin>:       Send Sync -     UnwindSafe RefUnwindSafe Clone -;

    // The same.
    GILOnceCell<i32>:            Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    GILOnceCell<NotSync>:        Send -    Unpin UnwindSafe -             -     -;
    GILOnceCell<NotSend>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    GILOnceCell<Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    GILOnceCell<NotUnwindSafe>:  Send Sync Unpin -          -             -     -;
    GILOnceCell<NotUnpin>:       Send Sync Unpin UnwindSafe RefUnwindSafe -     -;

    // Passes the `&T` that it lends from thread to thread.
    GILProtected<i32>:            Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    GILProtected<NotSync>:        Send Sync Unpin UnwindSafe -             -     -;
    GILProtected<NotSend>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    GILProtected<Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    GILProtected<NotUnwindSafe>:  Send Sync Unpin -          RefUnwindSafe -     -;
    GILProtected<NotUnpin>:       Send Sync -     UnwindSafe RefUnwindSafe -     -;

    // A cell with a function that any thread may call.
    PyLazy<i32>:                 Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyLazy<NotSync>:             Send -    Unpin UnwindSafe -             -     -;
    PyLazy<NotSend>:             -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyLazy<Neither>:             -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyLazy<NotUnwindSafe>:       Send Sync Unpin -          -             -     -;
    PyLazy<NotUnpin>:            Send Sync -     UnwindSafe RefUnwindSafe -     -;
    PyLazy<i32, NotSync>:        Send -    Unpin UnwindSafe -             -     -;
    PyLazy<i32, NotSend>:        -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyLazy<i32, Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyLazy<i32, NotUnwindSafe>:  Send Sync Unpin -          RefUnwindSafe -     -;
    PyLazy<i32, NotUnpin>:       Send Sync -     UnwindSafe RefUnwindSafe -     -;

    PyTryLazy<i32>:                 Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyTryLazy<NotSync>:             Send -    Unpin UnwindSafe -             -     -;
    PyTryLazy<NotSend>:             -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyTryLazy<Neither>:             -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyTryLazy<NotUnwindSafe>:       Send Sync Unpin -          -             -     -;
    PyTryLazy<NotUnpin>:            Send Sync -     UnwindSafe RefUnwindSafe -     -;
    PyTryLazy<i32, NotSync>:        Send -    Unpin UnwindSafe -             -     -;
    PyTryLazy<i32, NotSend>:        -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyTryLazy<i32, Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyTryLazy<i32, NotUnwindSafe>:  Send Sync Unpin -          RefUnwindSafe -     -;
    PyTryLazy<i32, NotUnpin>:       Send Sync -     UnwindSafe RefUnwindSafe -     -;

    // A reference to a Python object, of whatever type.
    PyImport<PyAny>:    Send Sync Unpin UnwindSafe -             -     -;
    PyImport<Neither>:  Send Sync Unpin UnwindSafe RefUnwindSafe -     -;

    PyOnce:       Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyOnceState:  Send Sync Unpin UnwindSafe RefUnwindSafe -     -;

    // A mutex passes its data from thread to thread, and no two have them at once. It tells of a panic by its poison.
    PyMutex<i32>:            Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutex<NotSync>:        Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutex<NotSend>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutex<Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutex<NotUnwindSafe>:  Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutex<NotUnpin>:       Send Sync -     UnwindSafe RefUnwindSafe -     -;

    // A guard stays on its thread. It can be shared if its data can. A guard that owns an `Arc`
    // shows it, through which another thread can lock later, or drop the data: hence `Send`.
    PyMutexGuard<'static, i32>:            -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutexGuard<'static, NotSync>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutexGuard<'static, NotSend>:        -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyMutexGuard<'static, Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyMutexGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyMutexGuard<'static, NotSync>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyMutexGuard<'static, NotSend>:  -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyMutexGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyMutexGuard<'static, i32>:         -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyMutexGuard<'static, NotSync>:     -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyMutexGuard<'static, NotSend>:     -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyMutexGuard<'static, Neither>:     -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    // What the guards are made of. Those of the locks are names for combinations.
    Guard<'static, Locked, Exclusive<i32>>:  -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    ArcGuard<'static, Locked, i32>:          -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    Shared<i32>:                             -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    Shared<NotSync>:                         -    -    Unpin -          -             -     -;
    Exclusive<i32>:                          -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    Exclusive<NotSync>:                      -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    Locked:                                  Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    Reading:                                 Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    Writing:                                 Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    Whole:                                   Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    Part:                                    Send Sync Unpin UnwindSafe RefUnwindSafe -     -;

    // A read-write lock shares its data between readers, and passes them from writer to writer.
    PyRwLock<i32>:            Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLock<NotSync>:        Send -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLock<NotSend>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLock<Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLock<NotUnwindSafe>:  Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLock<NotUnpin>:       Send Sync -     UnwindSafe RefUnwindSafe -     -;

    // As the guards of a mutex.
    PyRwLockReadGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLockReadGuard<'static, NotSync>:  -    -    Unpin -          -             -     -;
    PyRwLockReadGuard<'static, NotSend>:  -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLockReadGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    PyRwLockWriteGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLockWriteGuard<'static, NotSync>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLockWriteGuard<'static, NotSend>:  -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyRwLockWriteGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    MappedPyRwLockReadGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyRwLockReadGuard<'static, NotSync>:  -    -    Unpin -          -             -     -;
    MappedPyRwLockReadGuard<'static, NotSend>:  -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyRwLockReadGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    MappedPyRwLockWriteGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyRwLockWriteGuard<'static, NotSync>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyRwLockWriteGuard<'static, NotSend>:  -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    MappedPyRwLockWriteGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    ArcPyRwLockReadGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyRwLockReadGuard<'static, NotSync>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyRwLockReadGuard<'static, NotSend>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyRwLockReadGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    ArcPyRwLockWriteGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyRwLockWriteGuard<'static, NotSync>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyRwLockWriteGuard<'static, NotSend>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    ArcPyRwLockWriteGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    // Without data.
    Wait:                    Send Sync Unpin UnwindSafe RefUnwindSafe Clone Copy;
    PyCondvar:               Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    ext::WaitTimeoutResult:  Send Sync Unpin UnwindSafe RefUnwindSafe Clone Copy;
    PyBarrier:               Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PyBarrierWaitResult:     Send Sync Unpin UnwindSafe RefUnwindSafe Clone Copy;

    // Passes its data from thread to thread, and shares them only in methods that ask for `Sync`.
    PyProtected<i32>:            Send Sync Unpin UnwindSafe -             -     -;
    PyProtected<NotSync>:        Send Sync Unpin UnwindSafe -             -     -;
    PyProtected<NotSend>:        -    -    Unpin UnwindSafe -             -     -;
    PyProtected<Neither>:        -    -    Unpin UnwindSafe -             -     -;
    PyProtected<NotUnwindSafe>:  Send Sync Unpin -          -             -     -;
    PyProtected<NotUnpin>:       Send Sync -     UnwindSafe -             -     -;

    // A snapshot shares its value with all threads at once, and any of them may drop it. A panic leaves a whole value.
    PySnapshot<i32>:            Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PySnapshot<NotSync>:        Send -    Unpin UnwindSafe -             -     -;
    PySnapshot<NotSend>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PySnapshot<Neither>:        -    -    Unpin UnwindSafe RefUnwindSafe -     -;
    PySnapshot<NotUnwindSafe>:  Send Sync Unpin -          -             -     -;
    PySnapshot<NotUnpin>:       Send Sync -     UnwindSafe RefUnwindSafe -     -;

    PySnapshotGuard<'static, i32>:      -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PySnapshotGuard<'static, NotSync>:  -    -    Unpin -          -             -     -;
    PySnapshotGuard<'static, NotSend>:  -    Sync Unpin UnwindSafe RefUnwindSafe -     -;
    PySnapshotGuard<'static, Neither>:  -    -    Unpin UnwindSafe RefUnwindSafe -     -;

    // What was entered or borrowed stays on its thread.
    EnteredCriticalSection<'static, i32>:      -    -    Unpin -          -             -     -;
    EnteredCriticalSection<'static, NotSync>:  -    -    Unpin -          -             -     -;
    EnteredCriticalSection<'static, NotSend>:  -    -    Unpin -          -             -     -;
    EnteredCriticalSection<'static, Neither>:  -    -    Unpin -          -             -     -;
    ProtectedRef<'static, i32>:                -    -    Unpin -          -             -     -;
    ProtectedRef<'static, NotSync>:            -    -    Unpin -          -             -     -;
    ProtectedRef<'static, NotSend>:            -    -    Unpin -          -             -     -;
    ProtectedRef<'static, Neither>:            -    -    Unpin -          -             -     -;
    ProtectedRefMut<'static, i32>:             -    -    Unpin -          -             -     -;
    ProtectedRefMut<'static, NotSync>:         -    -    Unpin -          -             -     -;
    ProtectedRefMut<'static, NotSend>:         -    -    Unpin -          -             -     -;
    ProtectedRefMut<'static, Neither>:         -    -    Unpin -          -             -     -;

    // A place for states is a static, and a reference to one stays on its thread. A handle goes everywhere.
    ModuleState<State>:        Send Sync Unpin UnwindSafe -             -     -;
    StateRef<'static, State>:  -    -    Unpin -          -             -     -;
    StateHandle<State>:        Send Sync Unpin UnwindSafe RefUnwindSafe Clone Copy;

    WaitError:             Send Sync Unpin -          -             -     -;
    DeadlockError:         Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    TryAttachedError:      Send Sync Unpin UnwindSafe RefUnwindSafe -     -;
    ProtectedBorrowError:  Send Sync Unpin UnwindSafe RefUnwindSafe -     -;

    // Data of a type that is not known.
    PyMutex<dyn Debug + Send>:     Send Sync - UnwindSafe RefUnwindSafe - -;
    PyMutex<dyn Debug + Sync>:     -    -    - UnwindSafe RefUnwindSafe - -;
    PyRwLock<dyn Debug + Send>:    Send -    - UnwindSafe RefUnwindSafe - -;
    PyProtected<dyn Debug + Send>: Send Sync - -          -             - -;
}

// Errors.
assert_impl_all!(DeadlockError: std::error::Error);
assert_impl_all!(WaitError: std::error::Error);
assert_impl_all!(TryAttachedError: std::error::Error);
assert_impl_all!(ProtectedBorrowError: std::error::Error);
