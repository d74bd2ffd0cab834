//! What the types of this crate promise without being run: sizes, and which threads may have them.
//!
//! The negative half stands beside programs that show what would go wrong, in `tests/compile_fail`.

use std::{
    cell::{Cell, RefCell},
    fmt::Debug,
    mem::size_of,
    panic::{RefUnwindSafe, UnwindSafe},
    rc::Rc,
    sync::{Arc, MutexGuard},
};

use pyo3::prelude::*;
use pyo3_sync::{
    ArcPyMutexGuard, ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, DeadlockError,
    MappedPyMutexGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard, ModuleData, ModuleState,
    ProtectedBorrowError, PyBarrier, PyCondvar, PyImport, PyLazy, PyMutex, PyMutexGuard, PyOnce,
    PyOnceLock, PyProtected, PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard, PyTryLazy,
    StateHandle, StateRef, TryAttachedError,
    critical_section::{EnteredCriticalSection, ProtectedRef, ProtectedRefMut},
};
use static_assertions::{assert_impl_all, assert_not_impl_any, const_assert};

/// `Send`, not `Sync`.
type NotSync = Cell<i32>;
/// Neither.
type Neither = Rc<i32>;
/// `Sync`, not `Send`.
type NotSend = MutexGuard<'static, i32>;
/// Neither `UnwindSafe` nor `RefUnwindSafe`.
type NotUnwindSafe = &'static mut RefCell<i32>;
/// `UnwindSafe`, not `RefUnwindSafe`.
type NotRefUnwindSafe = RefCell<i32>;

// A cell shares its value with all threads at once, and any of them may fill it or have it to drop.
assert_impl_all!(PyOnceLock<Py<PyAny>>: Send, Sync);
assert_impl_all!(PyOnceLock<NotSync>: Send);
assert_not_impl_any!(PyOnceLock<NotSync>: Sync);
assert_not_impl_any!(PyOnceLock<NotSend>: Send, Sync);
assert_not_impl_any!(PyOnceLock<Neither>: Send, Sync);

// A mutex passes its data from thread to thread, and no two have them at once.
assert_impl_all!(PyMutex<Vec<Py<PyAny>>>: Send, Sync);
assert_impl_all!(PyMutex<NotSync>: Send, Sync);
assert_not_impl_any!(PyMutex<NotSend>: Send, Sync);
assert_not_impl_any!(PyMutex<Neither>: Send, Sync);
assert_impl_all!(PyMutex<dyn Debug + Send>: Send, Sync);
assert_not_impl_any!(PyMutex<dyn Debug + Sync>: Send, Sync);

// A guard stays on its thread, and can be shared if what it guards can.
assert_impl_all!(PyMutexGuard<'static, i32>: Sync);
assert_impl_all!(MappedPyMutexGuard<'static, i32>: Sync);
assert_impl_all!(ArcPyMutexGuard<'static, i32>: Sync);
assert_impl_all!(MappedPyMutexGuard<'static, NotSend>: Sync);
// These show the mutex, with which another thread could come to have the data, or to drop them.
assert_not_impl_any!(PyMutexGuard<'static, NotSend>: Sync);
assert_not_impl_any!(ArcPyMutexGuard<'static, NotSend>: Sync);
assert_not_impl_any!(PyMutexGuard<'static, i32>: Send);
assert_not_impl_any!(MappedPyMutexGuard<'static, i32>: Send);
assert_not_impl_any!(ArcPyMutexGuard<'static, i32>: Send);
assert_not_impl_any!(PyMutexGuard<'static, NotSync>: Send, Sync);
assert_not_impl_any!(MappedPyMutexGuard<'static, NotSync>: Send, Sync);
assert_not_impl_any!(ArcPyMutexGuard<'static, NotSync>: Send, Sync);

// A place for states is a static, and a reference to one stays on its thread.
struct Plain;
impl ModuleData for Plain {}
assert_impl_all!(ModuleState<Plain>: Send, Sync);
assert_not_impl_any!(StateRef<'static, Plain>: Send, Clone, Copy);
assert_impl_all!(StateHandle<Plain>: Send, Sync, Copy);

assert_impl_all!(DeadlockError: Send, Sync, std::error::Error);
assert_impl_all!(TryAttachedError: Send, Sync, std::error::Error);

// A mutex tells of a panic by its poison; a cell is emptied by one, and shows what its value shows.
assert_impl_all!(PyMutex<NotUnwindSafe>: UnwindSafe, RefUnwindSafe);
assert_impl_all!(PyOnceLock<i32>: UnwindSafe, RefUnwindSafe);
assert_impl_all!(PyOnceLock<NotRefUnwindSafe>: UnwindSafe);
assert_not_impl_any!(PyOnceLock<NotRefUnwindSafe>: RefUnwindSafe);
assert_not_impl_any!(PyOnceLock<NotUnwindSafe>: UnwindSafe, RefUnwindSafe);

// Nothing that could be copied would unlock, or drop, once.
assert_not_impl_any!(PyMutexGuard<'static, i32>: Clone, Copy);
assert_not_impl_any!(MappedPyMutexGuard<'static, i32>: Clone, Copy);
assert_not_impl_any!(ArcPyMutexGuard<'static, i32>: Clone, Copy);
assert_not_impl_any!(PyMutex<i32>: Clone, Copy);

const POINTER: usize = size_of::<usize>();

/// A word is 8 bytes, and in builds with debug assertions also remembers where its owner took it.
const WORD: usize = if cfg!(debug_assertions) { 16 } else { 8 };
const_assert!(size_of::<PyMutex<()>>() == WORD);
const_assert!(size_of::<PyMutex<u64>>() == WORD + 8);
const_assert!(size_of::<PyOnceLock<()>>() == WORD);
const_assert!(size_of::<PyOnceLock<Py<PyAny>>>() == WORD + 8);
// In figures, for `cargo check --release`.
const_assert!(cfg!(debug_assertions) || size_of::<PyMutex<()>>() == 8);
const_assert!(cfg!(debug_assertions) || size_of::<PyMutex<u64>>() == 16);
const_assert!(cfg!(debug_assertions) || size_of::<PyOnceLock<()>>() == 8);
const_assert!(cfg!(debug_assertions) || size_of::<PyOnceLock<Py<PyAny>>>() == 16);

// Guards: one or two pointers and two flags, no token.
const_assert!(size_of::<PyMutexGuard<'static, i32>>() <= 3 * POINTER);
const_assert!(size_of::<MappedPyMutexGuard<'static, i32>>() <= 3 * POINTER);
const_assert!(size_of::<ArcPyMutexGuard<'static, i32>>() <= 2 * POINTER);
const_assert!(size_of::<Option<PyMutexGuard<'static, i32>>>() <= 3 * POINTER);

// Errors are seldom; results that carry one are as small as they can be.
const_assert!(size_of::<DeadlockError>() == POINTER);
const_assert!(size_of::<Result<(), DeadlockError>>() == POINTER);

/// Constructors are `const`, and none asks anything of the type.
#[test]
fn statics_need_no_initialiser() {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static MUTEX: PyMutex<Vec<Py<PyAny>>> = PyMutex::new(Vec::new());
    static TABLE: [PyMutex<Option<Py<PyAny>>>; 4] = [const { PyMutex::new(None) }; 4];

    assert!(!CELL.is_initialized());
    assert!(!MUTEX.is_locked());
    assert!(TABLE.iter().all(|mutex| !mutex.is_locked()));
    let cell = const { PyOnceLock::<Neither>::new() };
    let mutex = const { PyMutex::<Option<Neither>>::new(None) };
    assert_eq!((cell.into_inner(), mutex.into_inner()), (None, None));
}

/// A mutex of a sized type becomes one of an unsized type behind every pointer that allows it.
#[test]
fn data_may_be_unsized() {
    trait Service: Send {
        fn ask(&mut self) -> u32;
    }

    impl Service for u32 {
        fn ask(&mut self) -> u32 {
            *self += 1;
            *self
        }
    }

    let shared: Arc<PyMutex<dyn Service>> = Arc::new(PyMutex::new(1_u32));
    let boxed: Box<PyMutex<[i32]>> = Box::new(PyMutex::new([1, 2, 3]));
    let borrowed: &PyMutex<dyn Service> = &PyMutex::new(5_u32);
    Python::initialize();
    Python::attach(|py| {
        assert_eq!(shared.lock(py).ask(), 2);
        assert_eq!(PyMutex::lock_arc(&shared, py).ask(), 3);
        assert_eq!(boxed.lock(py).len(), 3);
        let last = PyMutexGuard::map(boxed.lock(py), |slice| &mut slice[2..]);
        assert_eq!(*last, [3]);
        assert_eq!(borrowed.with(py, |service| service.ask()), 6);
    });
}

// A `PyProtected` passes its data from thread to thread, and shares them only in methods that ask for `Sync`.
assert_impl_all!(PyProtected<Vec<Py<PyAny>>>: Send, Sync);
assert_impl_all!(PyProtected<NotSync>: Send, Sync);
assert_not_impl_any!(PyProtected<NotSend>: Send, Sync);
assert_not_impl_any!(PyProtected<Neither>: Send, Sync);
assert_impl_all!(PyProtected<dyn Debug + Send>: Send, Sync);
// What was entered or borrowed stays on its thread.
assert_not_impl_any!(EnteredCriticalSection<'static, i32>: Send, Sync);
assert_not_impl_any!(ProtectedRef<'static, i32>: Send, Sync);
assert_not_impl_any!(ProtectedRefMut<'static, i32>: Send, Sync);
assert_impl_all!(ProtectedBorrowError: Send, Sync, std::error::Error);

// A read-write lock shares its data between readers, and passes them from writer to writer.
assert_impl_all!(PyRwLock<Vec<Py<PyAny>>>: Send, Sync, UnwindSafe, RefUnwindSafe);
assert_impl_all!(PyRwLock<NotSync>: Send);
assert_not_impl_any!(PyRwLock<NotSync>: Sync);
assert_not_impl_any!(PyRwLock<NotSend>: Send, Sync);
assert_not_impl_any!(PyRwLock<Neither>: Send, Sync);
assert_impl_all!(PyRwLockReadGuard<'static, i32>: Sync);
assert_impl_all!(PyRwLockWriteGuard<'static, i32>: Sync);
assert_impl_all!(MappedPyRwLockReadGuard<'static, NotSend>: Sync);
assert_impl_all!(MappedPyRwLockWriteGuard<'static, NotSend>: Sync);
assert_not_impl_any!(PyRwLockReadGuard<'static, i32>: Send);
assert_not_impl_any!(PyRwLockWriteGuard<'static, i32>: Send);
assert_not_impl_any!(MappedPyRwLockReadGuard<'static, i32>: Send);
assert_not_impl_any!(MappedPyRwLockWriteGuard<'static, i32>: Send);
assert_not_impl_any!(ArcPyRwLockReadGuard<'static, i32>: Send);
assert_not_impl_any!(ArcPyRwLockWriteGuard<'static, i32>: Send);
assert_not_impl_any!(PyRwLockReadGuard<'static, NotSend>: Sync);
assert_not_impl_any!(PyRwLockWriteGuard<'static, NotSend>: Sync);
assert_not_impl_any!(ArcPyRwLockReadGuard<'static, NotSend>: Sync);
assert_not_impl_any!(ArcPyRwLockWriteGuard<'static, NotSend>: Sync);
assert_not_impl_any!(PyRwLockReadGuard<'static, NotSync>: Sync);
assert_not_impl_any!(PyRwLockWriteGuard<'static, NotSync>: Sync);

assert_impl_all!(PyCondvar: Send, Sync, UnwindSafe, RefUnwindSafe);
assert_impl_all!(PyBarrier: Send, Sync, UnwindSafe, RefUnwindSafe);
assert_impl_all!(PyOnce: Send, Sync, UnwindSafe, RefUnwindSafe);

// A lazy value is a cell with a function that any thread may call.
assert_impl_all!(PyLazy<Py<PyAny>>: Send, Sync);
assert_impl_all!(PyTryLazy<Py<PyAny>>: Send, Sync);
assert_impl_all!(PyLazy<i32>: UnwindSafe, RefUnwindSafe);
assert_impl_all!(PyTryLazy<i32>: UnwindSafe, RefUnwindSafe);
assert_impl_all!(PyLazy<NotSync>: Send);
assert_impl_all!(PyTryLazy<NotSync>: Send);
assert_not_impl_any!(PyLazy<NotSync>: Sync);
assert_not_impl_any!(PyTryLazy<NotSync>: Sync);
assert_not_impl_any!(PyLazy<NotSend>: Send, Sync);
assert_not_impl_any!(PyTryLazy<NotSend>: Send, Sync);
assert_not_impl_any!(PyLazy<Neither>: Send, Sync);
assert_not_impl_any!(PyTryLazy<Neither>: Send, Sync);
assert_not_impl_any!(PyLazy<i32, Neither>: Send, Sync);
assert_not_impl_any!(PyTryLazy<i32, Neither>: Send, Sync);
assert_not_impl_any!(PyLazy<i32, NotSync>: Sync);
assert_not_impl_any!(PyTryLazy<i32, NotSync>: Sync);
assert_not_impl_any!(PyLazy<NotRefUnwindSafe>: RefUnwindSafe);
assert_not_impl_any!(PyTryLazy<NotRefUnwindSafe>: RefUnwindSafe);

// An import has a reference to a Python object, of whatever type.
assert_impl_all!(PyImport: Send, Sync);
assert_impl_all!(PyImport<Neither>: Send, Sync);

/// The rest of the family has `const` constructors too.
#[test]
fn the_rest_of_the_family_in_statics() {
    static ONCE: PyOnce = PyOnce::new();
    static LAZY: PyLazy<Vec<Py<PyAny>>> = PyLazy::new(|py| vec![py.None()]);
    static TRY_LAZY: PyTryLazy<Py<PyAny>> = PyTryLazy::new(|py| Ok(py.None()));
    static MODULE: PyImport<PyModule> = PyImport::module("sys");
    static PATH: PyImport = PyImport::new("sys", "version_info.major");
    static CHANGED: PyCondvar = PyCondvar::new();
    static BARRIER: PyBarrier = PyBarrier::new(1);
    static LOCK: PyRwLock<Vec<Py<PyAny>>> = PyRwLock::new(Vec::new());
    static CELL: PyProtected<Vec<Py<PyAny>>> = PyProtected::new(Vec::new());

    assert!(!ONCE.is_completed() && LAZY.peek().is_none() && TRY_LAZY.peek().is_none());
    Python::initialize();
    Python::attach(|py| -> PyResult<()> {
        ONCE.call_once(py, || LOCK.write(py).push(py.None()));
        CELL.with_mut(py, |objects| objects.push(py.None()));
        assert_eq!((LAZY.get(py).len(), LOCK.read(py).len()), (1, 1));
        assert!(TRY_LAZY.get(py)?.is_none(py));
        assert!(
            MODULE
                .get(py)?
                .getattr("version_info")?
                .getattr("major")?
                .eq(PATH.get(py)?)?
        );
        CHANGED.notify_all();
        assert!(BARRIER.wait(py).is_leader());
        Ok(())
    })
    .unwrap();
    let lock = const { PyRwLock::<Option<Neither>>::new(None) };
    let cell = const { PyProtected::<Option<Neither>>::new(None) };
    assert_eq!((lock.into_inner(), cell.into_inner()), (None, None));
}
