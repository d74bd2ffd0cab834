//! The garbage collector and data behind our locks: nothing lost, nothing freed early, nothing hangs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::{PyMutex, PyOnceLock, PyProtected, PyRwLock};

use crate::harness::{on_threads, on_two_threads, wait_until, wait_until_detached};
use crate::interpreter::collect;
use crate::registry::Module;
use crate::test;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// An object that the collector must see through both kinds of lock.
#[pyclass(frozen, weakref)]
struct Node {
    links: PyMutex<Vec<Py<PyAny>>>,
    first: PyOnceLock<Py<PyAny>>,
}

#[pymethods]
impl Node {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for link in self.links.traverse(&visit).into_iter().flatten() {
            visit.call(link)?;
        }
        if let Some(first) = self.first.traverse(&visit) {
            visit.call(first)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        // The objects are dropped after the guard: their finalisers may come back.
        let _links = self
            .links
            .try_with_attached(|_, links| std::mem::take(links));
    }
}

impl Node {
    fn make(py: Python<'_>) -> PyResult<Py<Node>> {
        ALIVE.fetch_add(1, SeqCst);
        let node = Node {
            links: PyMutex::new(Vec::new()),
            first: PyOnceLock::new(),
        };
        Py::new(py, node)
    }

    /// A node that only the collector can free: it is linked to itself, behind the lock and in the cell.
    fn make_cyclic(py: Python<'_>) -> PyResult<Py<Node>> {
        let node = Node::make(py)?;
        node.get()
            .links
            .lock(py)
            .push(node.clone_ref(py).into_any());
        let partner = Node::make(py)?;
        partner
            .get()
            .first
            .get_or_init(py, || node.clone_ref(py).into_any());
        node.get().links.lock(py).push(partner.into_any());
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, SeqCst);
    }
}

fn weak_reference(py: Python<'_>, object: &Py<Node>) -> PyResult<Py<PyAny>> {
    let weak = py.import("weakref")?.call_method1("ref", (object,))?;
    Ok(weak.unbind())
}

fn is_dead(py: Python<'_>, weak: &Py<PyAny>) -> bool {
    weak.call0(py)
        .expect("a weak reference can be called")
        .is_none(py)
}

/// Collects until `condition`: without a GIL, an object that another thread gave up may take more than one round.
fn collect_until(py: Python<'_>, description: &str, condition: impl Fn() -> bool) {
    wait_until(py, description, || {
        collect(py);
        condition()
    });
}

/// cpython's collector finds cycles through our locks when they are free.
fn cycles_are_collected(py: Python<'_>) -> PyResult<()> {
    let weak = weak_reference(py, &Node::make_cyclic(py)?)?;
    assert!(!is_dead(py, &weak));
    collect_until(py, "the cycle is dead", || is_dead(py, &weak));
    assert_eq!(ALIVE.load(SeqCst), 0);
    Ok(())
}

/// The collector asks in the middle of everything, and gets what nobody is using.
fn what_is_in_use_is_not_traversed(py: Python<'_>) -> PyResult<()> {
    #[pyclass(frozen)]
    struct Witness {
        mutex: PyMutex<i32>,
        cell: PyOnceLock<i32>,
        seen: Mutex<(Option<i32>, Option<i32>)>,
    }

    #[pymethods]
    impl Witness {
        fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
            let seen = (self.mutex.traverse(&visit), self.cell.traverse(&visit));
            *self.seen.lock().expect("no panic") = (seen.0.copied(), seen.1.copied());
            Ok(())
        }
    }

    let witness = Witness {
        mutex: PyMutex::new(1),
        cell: PyOnceLock::new(),
        seen: Mutex::default(),
    };
    let witness = Py::new(py, witness)?;
    let Witness { mutex, cell, .. } = witness.get();
    let seen = || {
        collect(py);
        *witness.get().seen.lock().expect("no panic")
    };
    assert_eq!(seen(), (Some(1), None));
    let guard = mutex.lock(py);
    assert_eq!(seen(), (None, None));
    cell.get_or_init(py, || {
        assert_eq!(seen(), (None, None));
        2
    });
    assert_eq!(seen(), (None, Some(2)));
    drop(guard);
    assert_eq!(seen(), (Some(1), Some(2)));
    Ok(())
}

/// A guard is held across a detachment while another thread collects in a loop. What only the locked data keep alive stays
/// alive and whole, and is collected after the guard has gone.
fn what_a_locked_mutex_keeps_is_kept(py: Python<'_>) -> PyResult<()> {
    const NODES: usize = 100;
    let nodes: Vec<_> = (0..NODES)
        .map(|_| Node::make_cyclic(py))
        .collect::<PyResult<_>>()?;
    let weak: Vec<_> = nodes
        .iter()
        .map(|node| weak_reference(py, node))
        .collect::<PyResult<_>>()?;
    let (locked, collected) = (AtomicBool::new(false), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            let mut guards: Vec<_> = nodes.iter().map(|node| node.get().links.lock(py)).collect();
            let links: Vec<_> = guards.iter_mut().map(|guard| &mut **guard).collect();
            locked.store(true, SeqCst);
            py.detach(|| {
                let _links = links;
                wait_until_detached("it was collected", || collected.load(SeqCst));
            });
            for (guard, node) in guards.iter().zip(&nodes) {
                assert_eq!(guard.len(), 2);
                assert!(guard[0].is(node));
                let partner = guard[1].bind(py).cast::<Node>().expect("it is a node");
                let first = partner.get().first.get(py).expect("it is filled");
                assert!(first.is(node));
            }
        },
        |py| {
            wait_until(py, "all is locked", || locked.load(SeqCst));
            for _ in 0..20 {
                collect(py);
            }
            assert!(weak.iter().all(|weak| !is_dead(py, weak)));
            assert_eq!(ALIVE.load(SeqCst), 2 * NODES);
            collected.store(true, SeqCst);
        },
    );
    drop(nodes);
    collect_until(py, "all are dead", || ALIVE.load(SeqCst) == 0);
    assert!(weak.iter().all(|weak| is_dead(py, weak)));
    Ok(())
}

/// Threads change, under the lock, what the collector traverses, and make garbage all the while.
fn objects_are_moved_under_the_lock_during_collections(py: Python<'_>) -> PyResult<()> {
    const THREADS: usize = 4;
    let shared: Vec<_> = (0..THREADS)
        .map(|_| Node::make(py))
        .collect::<PyResult<_>>()?;
    for node in &shared {
        let mut links = node.get().links.lock(py);
        for _ in 0..10 {
            links.push(Node::make(py)?.into_any());
        }
    }
    let done = AtomicUsize::new(0);
    on_threads(py, THREADS + 1, |py, number| {
        if number == THREADS {
            while done.load(SeqCst) < THREADS {
                collect(py);
                py.detach(std::thread::yield_now);
            }
            return;
        }
        for round in 0..400 {
            // From one node to the next: an object is in one of them, or in this thread's hands.
            let taken = shared[(number + round) % THREADS]
                .get()
                .links
                .lock(py)
                .pop();
            if let Some(object) = taken {
                if round % 50 == 0 {
                    py.detach(std::thread::yield_now);
                }
                shared[(number + round + 1) % THREADS]
                    .get()
                    .links
                    .lock(py)
                    .push(object);
            }
            drop(Node::make_cyclic(py).expect("it is made"));
        }
        done.fetch_add(1, SeqCst);
    });
    let linked: usize = shared
        .iter()
        .map(|node| node.get().links.lock(py).len())
        .sum();
    assert_eq!(linked, 10 * THREADS);
    for node in &shared {
        for link in node.get().links.lock(py).iter() {
            let node = link.bind(py).cast::<Node>()?;
            assert_eq!(node.get().links.lock(py).len(), 0);
        }
    }
    collect_until(py, "the garbage is gone", || {
        ALIVE.load(SeqCst) == THREADS + 10 * THREADS
    });
    drop(shared);
    collect_until(py, "all are dead", || ALIVE.load(SeqCst) == 0);
    Ok(())
}

/// The collector runs in the middle of the initialiser of a cell that it traverses.
fn a_cell_is_filled_during_collections(py: Python<'_>) -> PyResult<()> {
    for _ in 0..20 {
        let node = Node::make(py)?;
        let inside = AtomicBool::new(false);
        let collected = AtomicBool::new(false);
        on_two_threads(
            py,
            |py| {
                let cell = &node.get().first;
                cell.get_or_init(py, || {
                    inside.store(true, SeqCst);
                    py.detach(|| {
                        wait_until_detached("it was collected", || collected.load(SeqCst))
                    });
                    collect(py);
                    node.clone_ref(py).into_any()
                });
            },
            |py| {
                wait_until(py, "the initialiser runs", || inside.load(SeqCst));
                collect(py);
                collected.store(true, SeqCst);
                collect(py);
            },
        );
        let weak = weak_reference(py, &node)?;
        collect(py);
        assert!(!is_dead(py, &weak));
    }
    // Each is linked to itself through its cell, which `__clear__` cannot empty without exclusive access: the cycle is seen,
    // and found not to be breakable, so these stay.
    assert_eq!(ALIVE.load(SeqCst), 20);
    Ok(())
}

/// A cycle that runs through nothing but a cell: `__clear__` of a class that is not frozen can empty it.
fn cycles_through_cells_are_collected(py: Python<'_>) -> PyResult<()> {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    #[pyclass(weakref)]
    struct Holder {
        cell: PyOnceLock<Py<PyAny>>,
    }

    #[pymethods]
    impl Holder {
        fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
            self.cell
                .traverse(&visit)
                .map_or(Ok(()), |object| visit.call(object))
        }

        fn __clear__(&mut self) {
            drop(self.cell.take());
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }

    let make = || {
        let cell = PyOnceLock::new();
        Py::new(py, Holder { cell })
    };
    let (itself, first, second) = (make()?, make()?, make()?);
    for (holder, object) in [(&itself, &itself), (&first, &second), (&second, &first)] {
        let holder = holder.borrow(py);
        holder
            .cell
            .get_or_init(py, || object.clone_ref(py).into_any());
    }
    let weak = py.import("weakref")?.call_method1("ref", (&itself,))?;
    collect(py);
    assert_eq!(DROPPED.load(SeqCst), 0);
    drop((itself, first, second));
    collect_until(py, "the cycles are dead", || DROPPED.load(SeqCst) == 3);
    assert!(weak.call0()?.is_none());
    Ok(())
}

/// What an object holds behind each kind of lock, for those who visit it.
#[pyclass(frozen)]
struct Holds {
    mutex: PyMutex<Vec<Py<PyAny>>>,
    lock: PyRwLock<Py<PyAny>>,
    protected: PyProtected<Py<PyAny>>,
    cell: PyOnceLock<Py<PyAny>>,
    /// How many visits did not stop.
    visits: AtomicUsize,
    /// Whether the count of an object was another one after its lock was asked for it.
    counts_change: AtomicBool,
}

impl Holds {
    fn make(py: Python<'_>, objects: &[Py<PyAny>; 5]) -> PyResult<Py<Self>> {
        let [first, second, third, fourth, fifth] = objects.each_ref().map(|it| it.clone_ref(py));
        let holds = Holds {
            mutex: PyMutex::new(vec![first, second]),
            lock: PyRwLock::new(third),
            protected: PyProtected::new(fourth),
            cell: PyOnceLock::from(fifth),
            visits: AtomicUsize::new(0),
            counts_change: AtomicBool::new(false),
        };
        Py::new(py, holds)
    }

    fn visit(&self, visit: &PyVisit<'_>, object: &Py<PyAny>) -> Result<(), PyTraverseError> {
        visit.call(object)?;
        self.visits.fetch_add(1, SeqCst);
        Ok(())
    }
}

#[pymethods]
impl Holds {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the object is alive, since this one holds it. A count is read, and nothing else.
        let count = |object: &Py<PyAny>| unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) };
        if let Some(objects) = self.mutex.traverse(&visit) {
            for object in objects {
                self.visit(&visit, object)?;
            }
        }
        for held in [
            self.lock.traverse(&visit),
            self.protected.traverse(&visit),
            self.cell.traverse(&visit),
        ] {
            let object = held.expect("nobody uses it");
            let before = count(object);
            self.lock.traverse(&visit);
            self.protected.traverse(&visit);
            self.cell.traverse(&visit);
            if count(object) != before {
                self.counts_change.store(true, SeqCst);
            }
            self.visit(&visit, object)?;
        }
        Ok(())
    }
}

fn five_objects(py: Python<'_>) -> [Py<PyAny>; 5] {
    std::array::from_fn(|_| PyList::empty(py).into_any().unbind())
}

/// pyo3#4479, pyo3#3688.
fn traversal_changes_no_reference_counts(py: Python<'_>) -> PyResult<()> {
    let objects = five_objects(py);
    let holds = Holds::make(py, &objects)?;
    let get = py.import("sys")?.getattr("getrefcount")?;
    let counts = || -> PyResult<Vec<usize>> {
        let all = objects.iter().chain([holds.as_any()]);
        all.map(|object| get.call1((object,))?.extract()).collect()
    };
    let before = counts()?;
    for _ in 0..5 {
        collect(py);
    }
    assert!(holds.get().visits.load(SeqCst) >= 5 * objects.len());
    assert!(!holds.get().counts_change.load(SeqCst));
    assert_eq!(counts()?, before);
    Ok(())
}

/// pyo3#3165: `gc.get_referrers` stops each traversal at the object it looks for, which the traversal says in turn.
fn a_visit_that_stops_early_is_passed_on(py: Python<'_>) -> PyResult<()> {
    let objects = five_objects(py);
    let holds = Holds::make(py, &objects)?;
    let visits = &holds.get().visits;
    let gc = py.import("gc")?;
    let is_referrer = |object: &Py<PyAny>| -> PyResult<bool> {
        let referrers = gc.call_method1("get_referrers", (object,))?;
        let all = referrers.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        Ok(all.iter().any(|referrer| referrer.is(&holds)))
    };
    gc.call_method0("disable")?;
    for (number, object) in objects.iter().enumerate() {
        visits.store(0, SeqCst);
        assert!(is_referrer(object)?, "{number}");
        assert_eq!(visits.load(SeqCst), number);
    }
    visits.store(0, SeqCst);
    assert!(!is_referrer(&PyList::empty(py).into_any().unbind())?);
    assert_eq!(visits.load(SeqCst), objects.len());
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(cycles_are_collected),
        test!(what_is_in_use_is_not_traversed),
        test!(what_a_locked_mutex_keeps_is_kept),
        test!(objects_are_moved_under_the_lock_during_collections).limit(30),
        test!(a_cell_is_filled_during_collections),
        test!(cycles_through_cells_are_collected),
        test!(traversal_changes_no_reference_counts),
        test!(a_visit_that_stops_early_is_passed_on),
    ],
    scenarios: &[],
};
