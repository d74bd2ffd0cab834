//! `PySnapshot`: readers keep the value that they have loaded, and every other value is dropped.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::exceptions::DeadlockError;
use pyo3_sync::{ModuleData, ModuleState, PyMutex, PyRwLock, PySnapshot};

use crate::callback::Callback;
use crate::fork::{Forked, allow_forks, without_fork};
use crate::harness::{
    Barrier, child, finish, on_threads, on_two_threads, wait_until, wait_until_detached,
};
use crate::interpreter::collect;
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(8);

unsafe extern "C" {
    // Not declared by PyO3 for the stable ABI.
    fn PyGILState_Check() -> c_int;
}

/// Counts the values that exist.
struct Counted<'a> {
    number: usize,
    /// In memory that the drop overwrites.
    canary: Box<AtomicUsize>,
    alive: &'a AtomicUsize,
}

const INTACT: usize = 0x600d;

impl<'a> Counted<'a> {
    fn new(number: usize, alive: &'a AtomicUsize) -> Self {
        alive.fetch_add(1, SeqCst);
        Counted {
            number,
            canary: Box::new(AtomicUsize::new(INTACT)),
            alive,
        }
    }

    fn use_it(&self) -> usize {
        assert_eq!(self.canary.load(SeqCst), INTACT, "a dropped value is read");
        self.number
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        assert_eq!(self.canary.swap(0, SeqCst), INTACT, "dropped twice");
        // SAFETY: the interpreter is initialized.
        assert_eq!(unsafe { PyGILState_Check() }, 1, "dropped attached");
        self.alive.fetch_sub(1, SeqCst);
    }
}

fn unread_values_are_dropped_by_the_store(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    for number in 1..5 {
        assert_eq!(snapshot.load(py).use_it(), number - 1);
        snapshot.store(py, Counted::new(number, &alive));
        assert_eq!(alive.load(SeqCst), 1);
    }
    drop(snapshot);
    assert_eq!(alive.load(SeqCst), 0);
    Ok(())
}

fn readers_keep_what_they_loaded(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    let first = snapshot.load(py);
    snapshot.store(py, Counted::new(1, &alive));
    let second = snapshot.load(py);
    snapshot.store(py, Counted::new(2, &alive));
    let third = snapshot.load(py);
    assert_eq!((first.use_it(), second.use_it(), third.use_it()), (0, 1, 2));
    assert_eq!(alive.load(SeqCst), 3);
    drop(second);
    assert_eq!(alive.load(SeqCst), 2);
    drop(third);
    assert_eq!(alive.load(SeqCst), 2);
    assert_eq!(first.use_it(), 0);
    drop(first);
    assert_eq!(alive.load(SeqCst), 1);
    assert_eq!(snapshot.load(py).use_it(), 2);
    Ok(())
}

/// A thread may load one value several times. The last guard drops it, in whatever order they end.
fn nested_loads_end_in_any_order(py: Python<'_>) -> PyResult<()> {
    for last in 0..3 {
        let alive = AtomicUsize::new(0);
        let snapshot = PySnapshot::new(Counted::new(0, &alive));
        for number in 1..3 {
            let mut guards = [snapshot.load(py), snapshot.load(py), snapshot.load(py)].map(Some);
            snapshot.store(py, Counted::new(number, &alive));
            let newer = snapshot.load(py);
            for place in (0..3).filter(|place| *place != last) {
                guards[place] = None;
                assert_eq!(alive.load(SeqCst), 2);
            }
            assert_eq!(
                guards[last].take().map(|guard| guard.use_it()),
                Some(number - 1)
            );
            assert_eq!(alive.load(SeqCst), 1);
            assert_eq!(newer.use_it(), number);
        }
    }
    Ok(())
}

/// A thread has six slots in its first record.
fn a_thread_loads_more_than_it_has_slots(py: Python<'_>) -> PyResult<()> {
    const VALUES: usize = 40;
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    let others: Vec<_> = (0..VALUES).map(PySnapshot::new).collect();
    for round in 0..3 {
        let mut guards = Vec::new();
        for (number, other) in others.iter().enumerate() {
            snapshot.store(py, Counted::new(number, &alive));
            guards.push((snapshot.load(py), other.load(py)));
        }
        assert_eq!(alive.load(SeqCst), VALUES);
        for (number, (guard, other)) in guards.iter().enumerate() {
            assert_eq!((guard.use_it(), **other), (number, number));
        }
        match round {
            0 => drop(guards),
            1 => guards.into_iter().rev().for_each(drop),
            _ => {
                let (even, odd): (Vec<_>, Vec<_>) = guards
                    .into_iter()
                    .partition(|(guard, _)| guard.use_it() % 2 == 0);
                drop(even);
                assert!(odd.iter().all(|(guard, _)| guard.use_it() % 2 == 1));
            }
        }
        assert_eq!(alive.load(SeqCst), 1);
    }
    Ok(())
}

/// Under a read guard, under a reference to a module state, and under a mutex.
fn loads_nest_with_other_guards(py: Python<'_>) -> PyResult<()> {
    struct State(PySnapshot<usize>);
    impl ModuleData for State {}
    static STATE: ModuleState<State> = ModuleState::new();
    let module = PyModule::new(py, "snapshots")?;
    let state = STATE.init(&module, || Ok(State(PySnapshot::new(1))))?;
    let (lock, mutex) = (PyRwLock::new(()), PyMutex::new(()));
    let (read, locked) = (lock.read(py), mutex.lock(py));
    let loaded = state.0.load(py);
    state.0.store(py, 2);
    let again = state.0.load(py);
    assert!(lock.try_write(py).is_none());
    drop(read);
    assert!(lock.try_write(py).is_some());
    drop(locked);
    assert_eq!((*loaded, *again), (1, 2));
    Ok(())
}

fn a_guard_is_held_while_detached(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    let (loaded, stored) = (AtomicBool::new(false), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            let guard = snapshot.load(py);
            let value = &*guard;
            loaded.store(true, SeqCst);
            py.detach(|| {
                wait_until_detached("another value is stored", || stored.load(SeqCst));
                value.use_it();
            });
            assert_eq!(alive.load(SeqCst), 2);
            assert_eq!(guard.use_it(), 0);
            drop(guard);
            assert_eq!(alive.load(SeqCst), 1);
        },
        |py| {
            wait_until(py, "the value is loaded", || loaded.load(SeqCst));
            snapshot.store(py, Counted::new(1, &alive));
            assert_eq!(alive.load(SeqCst), 2);
            assert_eq!(snapshot.load(py).use_it(), 1);
            stored.store(true, SeqCst);
        },
    );
    Ok(())
}

/// The value leaks once it is replaced, and nothing else does.
fn a_forgotten_guard_keeps_its_value(py: Python<'_>) -> PyResult<()> {
    let alive: &AtomicUsize = Box::leak(Box::default());
    for first_value in [true, false] {
        alive.store(0, SeqCst);
        let mut snapshot = PySnapshot::new(Counted::new(0, alive));
        if !first_value {
            snapshot.store(py, Counted::new(0, alive));
        }
        on_threads(py, 1, |py, _| std::mem::forget(snapshot.load(py)));
        std::mem::forget(snapshot.load(py));
        assert_eq!(snapshot.get_mut().use_it(), 0);
        for number in 1..10 {
            snapshot.store(py, Counted::new(number, alive));
            assert_eq!(snapshot.load(py).use_it(), number);
            assert_eq!(alive.load(SeqCst), 2);
        }
        drop(snapshot);
        assert_eq!(alive.load(SeqCst), 1);
    }
    Ok(())
}

/// The slot of a forgotten guard outlives the snapshot. Its address must not become that of another
/// node, which would have a reader for ever.
fn a_forgotten_guard_concerns_no_later_snapshot(py: Python<'_>) -> PyResult<()> {
    let alive: &AtomicUsize = Box::leak(Box::default());
    for consume in [drop, |snapshot| drop(PySnapshot::into_inner(snapshot))] {
        for _ in 0..20 {
            let snapshot = PySnapshot::new(Counted::new(0, alive));
            snapshot.store(py, Counted::new(1, alive));
            std::mem::forget(snapshot.load(py));
            consume(snapshot);
            assert_eq!(alive.load(SeqCst), 0);
            // The allocator returns the memory that was freed last.
            let later = PySnapshot::new(Counted::new(2, alive));
            later.store(py, Counted::new(3, alive));
            later.store(py, Counted::new(4, alive));
            assert_eq!(alive.load(SeqCst), 1, "an unread value is dropped");
        }
    }
    Ok(())
}

/// A reference to the value may live as long as the borrow of the snapshot, though its guard is
/// never dropped.
fn a_leaked_guard_lends_its_value(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    on_threads(py, 1, |py, _| {
        let value: &Counted<'_> = Box::leak(Box::new(snapshot.load(py)));
        snapshot.store(py, Counted::new(1, &alive));
        assert_eq!(value.use_it(), 0);
    });
    assert_eq!(alive.load(SeqCst), 2);
    Ok(())
}

/// The values of types without a size have no address of their own.
fn values_without_size_are_dropped_once(py: Python<'_>) -> PyResult<()> {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Empty;
    impl Drop for Empty {
        fn drop(&mut self) {
            DROPS.fetch_add(1, SeqCst);
        }
    }
    let snapshots = [PySnapshot::new(Empty), PySnapshot::new(Empty)];
    let guards = [snapshots[0].load(py), snapshots[1].load(py)];
    snapshots[0].store(py, Empty);
    let newer = snapshots[0].load(py);
    snapshots[0].store(py, Empty);
    assert_eq!(DROPS.load(SeqCst), 0);
    drop(newer);
    assert_eq!(DROPS.load(SeqCst), 1);
    drop(guards);
    assert_eq!(DROPS.load(SeqCst), 2);
    snapshots[1].store(py, Empty);
    assert_eq!(DROPS.load(SeqCst), 3);
    drop(snapshots);
    assert_eq!(DROPS.load(SeqCst), 5);
    Ok(())
}

/// Two thousand stores, of which each finds the address of the last value free.
fn addresses_are_reused(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    let other = PySnapshot::new(Counted::new(0, &alive));
    for number in 1..1_000 {
        let guard = snapshot.load(py);
        snapshot.store(py, Counted::new(number, &alive));
        drop(guard);
        other.store(py, Counted::new(number, &alive));
        assert_eq!(alive.load(SeqCst), 2);
        assert_eq!(snapshot.load(py).use_it(), number);
        assert_eq!(other.load(py).use_it(), number);
    }
    Ok(())
}

/// The destructor of an old value loads and stores, which drops another value, and so on.
fn a_destructor_stores(py: Python<'_>) -> PyResult<()> {
    struct Stores(usize);
    static SNAPSHOT: PySnapshot<Stores> = PySnapshot::new(Stores(5));
    impl Drop for Stores {
        fn drop(&mut self) {
            // SAFETY: old values are dropped by attached threads.
            let py = unsafe { Python::assume_attached() };
            if self.0 > 0 {
                let guard = SNAPSHOT.load(py);
                SNAPSHOT.store(py, Stores(self.0 - 1));
                SNAPSHOT.update(py, |_| Stores(0));
                drop(guard);
            }
        }
    }
    SNAPSHOT.store(py, Stores(3));
    assert_eq!(SNAPSHOT.load(py).0, 0);
    let guard = SNAPSHOT.load(py);
    SNAPSHOT.store(py, Stores(3));
    SNAPSHOT.store(py, Stores(0));
    drop(guard);
    assert_eq!(SNAPSHOT.load(py).0, 0);
    Ok(())
}

/// As above, with an object of Python's, whose finalizer runs Python code.
fn a_finalizer_stores(py: Python<'_>) -> PyResult<()> {
    static SNAPSHOT: PySnapshot<Option<Py<PyAny>>> = PySnapshot::new(None);
    static STORES: AtomicUsize = AtomicUsize::new(0);
    let store = Callback::new(|py| {
        let object = SNAPSHOT
            .load(py)
            .as_ref()
            .map(|object| object.clone_ref(py));
        SNAPSHOT.store(py, object);
        SNAPSHOT.update(py, |_| None);
        STORES.fetch_add(1, SeqCst);
        Ok(())
    });
    let store = Py::new(py, store)?;
    let code = c"
class Stores:
    def __init__(self, store):
        self.store = store
    def __del__(self):
        [str(number) for number in range(100)]
        self.store()
";
    let helper = PyModule::from_code(py, code, c"stores.py", c"stores")?;
    for round in 1..=100 {
        let object = helper.getattr("Stores")?.call1((&store,))?;
        SNAPSHOT.store(py, Some(object.unbind()));
        if round % 2 == 0 {
            SNAPSHOT.store(py, None);
        } else {
            SNAPSHOT.update(py, |_| None);
        }
        assert_eq!(STORES.load(SeqCst), round);
    }
    Ok(())
}

fn a_panicking_destructor_changes_nothing_else(py: Python<'_>) -> PyResult<()> {
    let panics = || Some(OnDrop::<fn(), ()>(|| panic!("in the destructor")));
    let snapshot = PySnapshot::new(panics());
    let message = panic_of(|| snapshot.store(py, None));
    assert_eq!(message, "in the destructor");
    assert!(snapshot.load(py).is_none());
    snapshot.store(py, panics());
    let guard = snapshot.load(py);
    snapshot.store(py, None);
    assert_eq!(panic_of(|| drop(guard)), "in the destructor");
    assert!(snapshot.load(py).is_none());
    snapshot.update(py, |_| None);
    Ok(())
}

fn no_update_is_lost(py: Python<'_>) -> PyResult<()> {
    const THREADS: usize = 4;
    const UPDATES: usize = 200;
    let (snapshot, calls) = (PySnapshot::new(0), AtomicUsize::new(0));
    on_threads(py, THREADS, |py, _| {
        for number in 0..UPDATES {
            snapshot.update(py, |old| {
                calls.fetch_add(1, SeqCst);
                if number % 50 == 0 {
                    py.detach(thread::yield_now);
                }
                old + 1
            });
        }
    });
    assert_eq!(*snapshot.load(py), THREADS * UPDATES);
    assert_eq!(calls.load(SeqCst), THREADS * UPDATES);
    Ok(())
}

fn an_update_in_an_update_is_reported(py: Python<'_>) -> PyResult<()> {
    let snapshot = PySnapshot::new(1);
    let updated = snapshot.try_update(py, |old| {
        snapshot.try_update(py, |old| Ok::<_, PyErr>(old + 1))?;
        Ok::<_, PyErr>(old + 1)
    });
    assert!(updated.unwrap_err().is_instance_of::<DeadlockError>(py));
    let message = panic_of(|| {
        snapshot.update(py, |_| {
            snapshot.update(py, |old| old + 1);
            unreachable!("the inner update panics")
        });
    });
    assert!(message.contains("already holds"), "{message}");
    assert!(message.contains("snapshot.rs"), "{message}");
    snapshot.update(py, |old| old + 1);
    assert_eq!(*snapshot.load(py), 2);
    Ok(())
}

/// Each of two threads updates one snapshot, and in it the other one.
fn two_updates_in_a_cycle_are_reported(py: Python<'_>) -> PyResult<()> {
    let (snapshots, barrier) = ([PySnapshot::new(0), PySnapshot::new(0)], Barrier::new(2));
    let reported = on_threads(py, 2, |py, number| {
        let updated = snapshots[number].try_update(py, |old| {
            barrier.meet(py);
            snapshots[1 - number].try_update(py, |old| Ok::<i32, PyErr>(old + 1))?;
            Ok::<i32, PyErr>(old + 1)
        });
        updated.is_err()
    });
    assert_eq!(reported.iter().filter(|reported| **reported).count(), 1);
    Ok(())
}

fn a_store_during_an_update_wins(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    snapshot.update(py, |old| {
        snapshot.store(py, Counted::new(7, &alive));
        assert_eq!(snapshot.load(py).use_it(), 7);
        Counted::new(old.use_it() + 1, &alive)
    });
    assert_eq!(snapshot.load(py).use_it(), 7);
    assert_eq!(alive.load(SeqCst), 1);
    Ok(())
}

fn a_failed_update_changes_nothing(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(1, &alive));
    let error = snapshot.try_update(py, |_| Err(PyValueError::new_err("no")));
    assert!(error.unwrap_err().is_instance_of::<PyValueError>(py));
    assert_eq!(panic_of(|| snapshot.update(py, |_| panic!("no"))), "no");
    assert_eq!(snapshot.load(py).use_it(), 1);
    // The value that the closure has read is dropped after the lock of updates is released.
    type Updates = OnDrop<fn(), ()>;
    static NESTED: PySnapshot<Option<Updates>> = PySnapshot::new(None);
    static DROPPED: AtomicBool = AtomicBool::new(false);
    let updates = || {
        // SAFETY: old values are dropped by attached threads.
        let py = unsafe { Python::assume_attached() };
        NESTED.update(py, |_| None);
        DROPPED.store(true, SeqCst);
    };
    NESTED.store(py, Some(OnDrop(updates)));
    let failed = NESTED.try_update(py, |_| {
        NESTED.store(py, None);
        Err(PyValueError::new_err("no"))
    });
    assert!(failed.unwrap_err().is_instance_of::<PyValueError>(py));
    assert!(DROPPED.load(SeqCst));
    snapshot.update(py, |old| Counted::new(old.use_it() + 1, &alive));
    assert_eq!(snapshot.load(py).use_it(), 2);
    Ok(())
}

/// Loads and stores do not wait for an update, which waits for them.
fn only_updates_wait_for_an_update(py: Python<'_>) -> PyResult<()> {
    let (snapshot, stage) = (PySnapshot::new(0), AtomicUsize::new(0));
    on_threads(py, 3, |py, number| match number {
        0 => snapshot.update(py, |old| {
            stage.store(1, SeqCst);
            wait_until(py, "others have loaded and stored", || {
                stage.load(SeqCst) == 2
            });
            old + 1
        }),
        1 => {
            wait_until(py, "the update runs", || stage.load(SeqCst) >= 1);
            assert_eq!(*snapshot.load(py), 0);
            snapshot.store(py, 10);
            stage.store(2, SeqCst);
        }
        _ => {
            wait_until(py, "the update runs", || stage.load(SeqCst) >= 1);
            snapshot.update(py, |old| {
                assert_eq!(stage.load(SeqCst), 2);
                old + 1
            });
        }
    });
    assert_eq!(*snapshot.load(py), 11);
    Ok(())
}

/// Threads load and store all the time. No reader sees a dropped value, and all values are dropped.
fn values_are_dropped_once_and_never_under_a_reader(py: Python<'_>) -> PyResult<()> {
    const STORES: usize = 2_000;
    let alive = AtomicUsize::new(0);
    let snapshot = PySnapshot::new(Counted::new(0, &alive));
    let stored = AtomicUsize::new(0);
    on_threads(py, 4, |py, number| {
        if number < 2 {
            let mut last = 0;
            while stored.load(SeqCst) < 2 {
                // Attached all the time, so that without a GIL nothing keeps the threads apart.
                for round in 0..500 {
                    let guard = snapshot.load(py);
                    let nested = (round % 7 == 0).then(|| snapshot.load(py));
                    if number == 0 {
                        // From one thread, the numbers of the other grow.
                        assert!(guard.use_it() >= last);
                        last = guard.use_it();
                    }
                    guard.use_it();
                    drop(guard);
                    assert!(nested.is_none_or(|guard| guard.use_it() >= last));
                }
                py.detach(thread::yield_now);
            }
            return;
        }
        for _ in 0..STORES {
            snapshot.update(py, |old| Counted::new(old.use_it() + 1, &alive));
        }
        stored.fetch_add(1, SeqCst);
    });
    assert_eq!(snapshot.load(py).use_it(), 2 * STORES);
    assert_eq!(alive.load(SeqCst), 1);
    Ok(())
}

/// The same without `membarrier`, in a process of its own.
fn it_does_without_membarrier(py: Python<'_>) -> PyResult<()> {
    let mut command = child(
        py,
        "snapshot::values_are_dropped_once_and_never_under_a_reader",
    )?;
    command.env("PYO3_SYNC_MEMBARRIER", "0");
    finish(py, command, CHILD_LIMIT)?.expect_success();
    Ok(())
}

/// A receiver list that leads to itself.
#[pyclass(frozen, weakref)]
struct Signal {
    receivers: PySnapshot<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Signal {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for receiver in self.receivers.traverse(&visit) {
            visit.call(receiver)?;
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        self.receivers.store(py, Vec::new());
    }
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

impl Drop for Signal {
    fn drop(&mut self) {
        SIGNALS.fetch_sub(1, SeqCst);
    }
}

impl Signal {
    /// A signal that only the collector can free.
    fn new(py: Python<'_>) -> PyResult<Py<Signal>> {
        SIGNALS.fetch_add(1, SeqCst);
        let receivers = PySnapshot::new(Vec::new());
        let signal = Py::new(py, Signal { receivers })?;
        let this = signal.clone_ref(py).into_any();
        signal.get().receivers.update(py, |_| vec![this]);
        Ok(signal)
    }
}

fn a_cycle_through_the_value_is_collected(py: Python<'_>) -> PyResult<()> {
    drop(Signal::new(py)?);
    wait_until(py, "the signal is collected", || {
        collect(py);
        SIGNALS.load(SeqCst) == 0
    });
    Ok(())
}

/// The objects of an old value are not taken apart while it is read.
fn objects_of_a_read_value_are_not_collected(py: Python<'_>) -> PyResult<()> {
    let signal = Signal::new(py)?;
    let inner = Signal::new(py)?;
    signal.get().receivers.store(py, vec![inner.into_any()]);
    let guard = signal.get().receivers.load(py);
    signal.get().receivers.store(py, Vec::new());
    for _ in 0..5 {
        collect(py);
    }
    assert_eq!(SIGNALS.load(SeqCst), 2);
    let inner = guard[0].bind(py).cast::<Signal>()?;
    assert_eq!(inner.get().receivers.load(py).len(), 1);
    drop(guard);
    wait_until(py, "the inner signal is collected", || {
        collect(py);
        SIGNALS.load(SeqCst) == 1
    });
    Ok(())
}

/// Threads replace what the collector traverses.
fn collected_while_others_store(py: Python<'_>) -> PyResult<()> {
    on_threads(py, 3, |py, number| {
        for _ in 0..40 {
            if number == 0 {
                collect(py);
                continue;
            }
            let signal = Signal::new(py).expect("it is created");
            let guard = signal.get().receivers.load(py);
            for _ in 0..20 {
                signal.get().receivers.update(py, |old| {
                    old.iter().map(|object| object.clone_ref(py)).collect()
                });
                py.detach(thread::yield_now);
            }
            assert!(guard[0].bind(py).is(&signal));
        }
    });
    wait_until(py, "all signals are collected", || {
        collect(py);
        SIGNALS.load(SeqCst) == 0
    });
    Ok(())
}

/// A value that another thread reads stays in the child, and an update of another thread has no
/// effect there.
fn usable_in_a_forked_child(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let alive = AtomicUsize::new(0);
    let read = PySnapshot::new(Counted::new(0, &alive));
    let updated = PySnapshot::new(0);
    let (busy, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    on_threads(py, 3, |py, number| {
        let stay = || wait_until_detached("the fork is over", || done.load(SeqCst));
        match number {
            0 => {
                let _guard = read.load(py);
                busy.fetch_add(1, SeqCst);
                py.detach(stay);
            }
            1 => updated.update(py, |old| {
                busy.fetch_add(1, SeqCst);
                py.detach(stay);
                old + 1
            }),
            _ => {
                wait_until(py, "both are busy", || busy.load(SeqCst) == 2);
                let mine = read.load(py);
                let forked = Forked::running(py, |py| {
                    read.store(py, Counted::new(1, &alive));
                    assert_eq!(mine.use_it(), 0);
                    drop(mine);
                    for number in 2..5 {
                        assert_eq!(alive.load(SeqCst), 2, "one is read by a lost thread");
                        read.update(py, |_| Counted::new(number, &alive));
                    }
                    updated.update(py, |old| old + 10);
                    assert_eq!(*updated.load(py), 10);
                    on_threads(py, 2, |py, _| {
                        updated.update(py, |old| old + 1);
                        assert!(*updated.load(py) > 10);
                    });
                });
                done.store(true, SeqCst);
                forked
                    .and_then(|forked| forked.expect_success(py))
                    .expect("the child ends well");
            }
        }
    });
    assert_eq!((*updated.load(py), alive.load(SeqCst)), (1, 1));
    Ok(())
}

/// A thread reads, detached, when the interpreter ends; and finalizers load, store and update.
fn used_by_finalizers_at_exit(py: Python<'_>) -> PyResult<()> {
    let finished = finish(py, child(py, "snapshot::exits")?, CHILD_LIMIT)?;
    finished.expect_success();
    assert!(
        finished.output.contains("stored at exit"),
        "{}",
        finished.output
    );
    Ok(())
}

fn exits(py: Python<'_>) -> PyResult<()> {
    static SNAPSHOT: PySnapshot<Option<Py<PyAny>>> = PySnapshot::new(None);
    static READ: AtomicBool = AtomicBool::new(false);

    #[pyclass(frozen)]
    struct Stores;

    impl Drop for Stores {
        fn drop(&mut self) {
            // SAFETY: a Python object is dropped by an attached thread.
            let py = unsafe { Python::assume_attached() };
            assert!(SNAPSHOT.load(py).is_some());
            SNAPSHOT.store(py, Some(py.None()));
            SNAPSHOT.update(py, |_| Some(py.None()));
            println!("stored at exit");
        }
    }

    SNAPSHOT.store(py, Some(py.None()));
    thread::spawn(|| {
        Python::attach(|py| {
            let _guard = SNAPSHOT.load(py);
            READ.store(true, SeqCst);
            py.detach(|| thread::sleep(Duration::from_secs(60)));
        });
    });
    wait_until(py, "the other thread reads", || READ.load(SeqCst));
    py.import("builtins")?.add("stores", Py::new(py, Stores)?)
}

fn an_ended_thread_leaves_a_forgotten_guard(py: Python<'_>) -> PyResult<()> {
    let alive: &AtomicUsize = Box::leak(Box::default());
    let snapshot: &PySnapshot<_> = Box::leak(Box::new(PySnapshot::new(Counted::new(0, alive))));
    py.detach(|| {
        let thread =
            thread::spawn(move || Python::attach(|py| std::mem::forget(snapshot.load(py))));
        thread.join().expect("no panic");
    });
    snapshot.store(py, Counted::new(1, alive));
    assert_eq!(alive.load(SeqCst), 2);
    snapshot.store(py, Counted::new(2, alive));
    assert_eq!(alive.load(SeqCst), 2);
    Ok(())
}

/// A thread-local that is destroyed after those of the crate.
fn loaded_while_a_thread_ends(py: Python<'_>) -> PyResult<()> {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static SNAPSHOT: PySnapshot<Option<Counted<'static>>> = PySnapshot::new(None);
    static LOADED: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static LAST: OnDrop<fn(), ()> = const { OnDrop(load_and_store as fn()) };
    }
    fn load_and_store() {
        Python::attach(|py| {
            let guard = SNAPSHOT.load(py);
            SNAPSHOT.store(py, Some(Counted::new(1, &ALIVE)));
            guard.as_ref().map(Counted::use_it);
            let again = SNAPSHOT.load(py);
            again.as_ref().map(Counted::use_it);
            LOADED.fetch_add(1, SeqCst);
        });
    }
    py.detach(|| {
        for _ in 0..10 {
            let thread = thread::spawn(|| {
                LAST.with(|_| ());
                Python::attach(|py| drop(SNAPSHOT.load(py)));
            });
            thread.join().expect("no panic");
        }
    });
    assert_eq!((LOADED.load(SeqCst), ALIVE.load(SeqCst)), (10, 1));
    SNAPSHOT.store(py, None);
    assert_eq!(ALIVE.load(SeqCst), 0);
    Ok(())
}

fn owned_values_are_accessible(py: Python<'_>) -> PyResult<()> {
    let alive = AtomicUsize::new(0);
    for stores in 0..2 {
        let mut snapshot = PySnapshot::from(Counted::new(0, &alive));
        if stores > 0 {
            snapshot.store(py, Counted::new(0, &alive));
        }
        snapshot.get_mut().number = 3;
        assert_eq!(snapshot.load(py).use_it(), 3);
        assert_eq!(snapshot.into_inner().use_it(), 3);
        assert_eq!(alive.load(SeqCst), 0);
    }
    let snapshot = PySnapshot::<u8>::default();
    assert_eq!(format!("{snapshot:?}"), "PySnapshot { .. }");
    let guard = snapshot.load(py);
    assert_eq!(
        (format!("{guard:?}"), format!("{guard}")),
        ("0".into(), "0".into())
    );
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(unread_values_are_dropped_by_the_store),
        test!(readers_keep_what_they_loaded),
        test!(nested_loads_end_in_any_order),
        test!(a_thread_loads_more_than_it_has_slots),
        test!(loads_nest_with_other_guards),
        test!(a_guard_is_held_while_detached),
        test!(a_forgotten_guard_keeps_its_value),
        test!(a_forgotten_guard_concerns_no_later_snapshot),
        test!(a_leaked_guard_lends_its_value),
        test!(values_without_size_are_dropped_once),
        test!(addresses_are_reused),
        test!(a_destructor_stores),
        test!(a_finalizer_stores),
        test!(a_panicking_destructor_changes_nothing_else),
        test!(no_update_is_lost),
        test!(an_update_in_an_update_is_reported),
        test!(two_updates_in_a_cycle_are_reported),
        test!(a_store_during_an_update_wins),
        test!(a_failed_update_changes_nothing),
        test!(only_updates_wait_for_an_update),
        test!(values_are_dropped_once_and_never_under_a_reader).limit(30),
        test!(it_does_without_membarrier).limit(30),
        test!(a_cycle_through_the_value_is_collected),
        test!(objects_of_a_read_value_are_not_collected),
        test!(collected_while_others_store),
        test!(usable_in_a_forked_child).unless(without_fork),
        test!(used_by_finalizers_at_exit),
        test!(an_ended_thread_leaves_a_forgotten_guard),
        test!(loaded_while_a_thread_ends),
        test!(owned_values_are_accessible),
    ],
    scenarios: &[
        scenario!(values_are_dropped_once_and_never_under_a_reader),
        scenario!(exits),
    ],
};
