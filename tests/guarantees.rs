//! What the types of this crate promise by their form: sizes, constructors for statics, data of unknown size.
//!
//! Which threads may have them is told by the table of `auto_traits.rs`.

use std::{mem::size_of, ptr, rc::Rc, sync::Arc};

use pyo3::prelude::*;
use pyo3_sync::{
    ArcPyMutexGuard, DeadlockError, MappedPyMutexGuard, MappedPyRwLockReadGuard, PyBarrier,
    PyCondvar, PyImport, PyLazy, PyMutex, PyMutexGuard, PyOnce, PyOnceLock, PyProtected, PyRwLock,
    PyRwLockReadGuard, PySnapshot, PySnapshotGuard, PyTryLazy, compat::GILOnceCell,
};
use static_assertions::const_assert;

/// Neither `Send` nor `Sync`.
type Neither = Rc<i32>;

const POINTER: usize = size_of::<usize>();

/// A word is 8 bytes. With debug assertions it also records where it was created and acquired.
const WORD: usize = if cfg!(debug_assertions) { 24 } else { 8 };
const_assert!(size_of::<PyMutex<()>>() == WORD);
const_assert!(size_of::<PyMutex<u64>>() == WORD + 8);
const_assert!(size_of::<PyOnceLock<()>>() == WORD);
const_assert!(size_of::<PyOnceLock<Py<PyAny>>>() == WORD + 8);
const_assert!(size_of::<PyOnceLock<u64>>() == WORD + 8);
const_assert!(size_of::<PyOnceLock<String>>() == WORD + size_of::<String>());
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

/// A guard for reading may be used as one for data of a shorter lifetime, as those of `std`.
#[allow(dead_code, reason = "compiling it is the test")]
fn read_guards_are_covariant<'a>(
    guard: PyRwLockReadGuard<'a, &'static str>,
    part: MappedPyRwLockReadGuard<'a, &'static str>,
    snapshot: PySnapshotGuard<'a, &'static str>,
) -> (
    PyRwLockReadGuard<'a, &'a str>,
    MappedPyRwLockReadGuard<'a, &'a str>,
    PySnapshotGuard<'a, &'a str>,
) {
    (guard, part, snapshot)
}

/// Constructors are `const`, and none asks anything of the type.
#[test]
fn statics_need_no_initialiser() {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static MUTEX: PyMutex<Vec<Py<PyAny>>> = PyMutex::new(Vec::new());
    static TABLE: [PyMutex<Option<Py<PyAny>>>; 4] = [const { PyMutex::new(None) }; 4];

    static SNAPSHOT: PySnapshot<Vec<Py<PyAny>>> = PySnapshot::new(Vec::new());

    assert!(!CELL.is_initialized());
    assert!(!MUTEX.is_locked());
    assert!(TABLE.iter().all(|mutex| !mutex.is_locked()));
    let cell = const { PyOnceLock::<Neither>::new() };
    let mutex = const { PyMutex::<Option<Neither>>::new(None) };
    let snapshot = const { PySnapshot::<Option<Neither>>::new(None) };
    assert_eq!((cell.into_inner(), mutex.into_inner()), (None, None));
    assert_eq!(snapshot.into_inner(), None);
    assert_eq!(format!("{SNAPSHOT:?}"), "PySnapshot { .. }");
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

/// The drop check accepts cells that refer to each other, whichever is dropped first.
#[test]
fn cells_refer_to_each_other() {
    #[derive(Default)]
    struct Node<'a> {
        next: PyOnceLock<&'a Node<'a>>,
        previous: GILOnceCell<&'a Node<'a>>,
    }

    Python::initialize();
    Python::attach(|py| {
        let (first, second) = (Node::default(), Node::default());
        first.next.get_or_init(py, || &second);
        second.next.get_or_init(py, || &first);
        first.previous.get_or_init(py, || &second);
        second.previous.get_or_init(py, || &first);
        let next = first.next.get(py).and_then(|node| node.next.get(py));
        assert!(next.is_some_and(|node| ptr::eq(*node, &first)));
        let previous = first.previous.get(py);
        assert!(previous.is_some_and(|node| ptr::eq(*node, &second)));
    });
}
