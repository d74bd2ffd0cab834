//! The garbage collector and data behind our locks: nothing lost, nothing freed early, nothing hangs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::{PyMutex, PyOnceLock};

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

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(cycles_are_collected),
        test!(what_is_in_use_is_not_traversed),
        test!(what_a_locked_mutex_keeps_is_kept),
        test!(objects_are_moved_under_the_lock_during_collections).limit(30),
        test!(a_cell_is_filled_during_collections),
    ],
    scenarios: &[],
};
