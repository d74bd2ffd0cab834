//! `PyProtected`: its borrows, and what becomes of them when their thread is suspended.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::PyProtected;
use pyo3_sync::critical_section::with_critical_section_mutex;

use crate::callback::Callback;
use crate::harness::{PythonThread, child, finish, on_threads, wait_until, wait_until_detached};
use crate::interpreter::collect;
use crate::panics::panic_of;
use crate::registry::Module;
use crate::{scenario, test};

fn threads_take_turns(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new((0, 0));
    on_threads(py, 4, |py, _| {
        for _ in 0..1000 {
            cell.with_mut(py, |(a, b)| {
                *a += 1;
                thread::yield_now();
                *b += 1;
            });
            assert!(cell.with(py, |(a, b)| a == b), "seen in between");
        }
    });
    assert_eq!(cell.into_inner(), (4000, 4000));
    Ok(())
}

/// The main thread borrows and detaches; `other` runs meanwhile.
fn while_the_main_thread_is_suspended<T: Send + Sync>(
    py: Python<'_>,
    cell: &PyProtected<T>,
    mutably: bool,
    other: impl Fn(Python<'_>) + Sync,
) {
    let run = |py: Python<'_>| drop(on_threads(py, 1, |py, _| other(py)));
    if mutably {
        cell.with_mut(py, |_| run(py));
    } else {
        cell.with(py, |_| run(py));
    }
}

/// The error says who is inside, by the name that the thread has in Python and the number that `faulthandler` prints.
fn an_outstanding_borrow_is_told_with_its_thread(py: Python<'_>) -> PyResult<()> {
    let ident: u64 = py
        .import("threading")?
        .call_method0("get_ident")?
        .extract()?;
    let inside = format!("\"MainThread\" ({ident:#018x})");
    let cell = PyProtected::new(vec![1]);
    while_the_main_thread_is_suspended(py, &cell, true, |py| {
        for error in [
            cell.try_with(py, |_| ()).unwrap_err(),
            cell.try_with_mut(py, |_| ()).unwrap_err(),
        ] {
            assert!(!error.is_by_this_thread());
            let text = error.to_string();
            assert!(text.contains(&format!("by thread {inside}")), "{text}");
            assert!(text.contains("mutably borrowed"), "{text}");
            assert!(text.contains("Vec<i32>"), "{text}");
            // Where this thread wanted it, and where the other one borrowed it.
            let places = if cfg!(debug_assertions) { 2 } else { 1 };
            assert_eq!(text.matches("protected.rs:").count(), places, "{text}");
            assert!(PyErr::from(error).is_instance_of::<pyo3::exceptions::PyRuntimeError>(py));
        }
        assert!(panic_of(|| cell.with(py, Vec::len)).contains(&inside));
        assert!(panic_of(|| cell.with_mut(py, Vec::clear)).contains(&inside));
    });
    while_the_main_thread_is_suspended(py, &cell, false, |py| {
        assert_eq!(cell.with(py, Vec::len), 1);
        let error = cell.try_with_mut(py, |_| ()).unwrap_err();
        assert!(error.to_string().contains(&format!("by thread {inside}")));
        assert!(error.to_string().contains(" is borrowed"), "{error}");
    });
    // Nothing is left of it.
    cell.with_mut(py, Vec::clear);
    Ok(())
}

fn several_readers_are_inside_at_once(py: Python<'_>) -> PyResult<()> {
    let (cell, inside, leave) = (
        PyProtected::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    on_threads(py, 4, |py, number| {
        if number > 0 {
            cell.with(py, |value| {
                inside.fetch_add(1, SeqCst);
                py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst)));
                assert_eq!(*value, 0);
            });
            return;
        }
        wait_until(py, "three are inside", || inside.load(SeqCst) == 3);
        let error = cell.try_with_mut(py, |value| *value = 1).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("borrowed 3 times") && text.contains("by at least one other thread"),
            "{text}"
        );
        assert!(!error.is_by_this_thread());
        leave.store(true, SeqCst);
    });
    cell.with_mut(py, |value| *value = 1);
    Ok(())
}

/// pyo3#916, and "Already borrowed" under threads: tokenizers#537, polars#24203, delta-rs#2958.
fn coming_back_is_told(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(vec![1, 2]);
    cell.with_mut(py, |values| {
        let error = cell.try_with(py, Vec::len).unwrap_err();
        assert!(error.is_by_this_thread());
        assert!(
            error
                .to_string()
                .contains("by this thread, further up its stack"),
            "{error}"
        );
        values.push(3);
    });
    cell.with(py, |values| {
        assert_eq!(cell.with(py, Vec::len), 3);
        let error = cell.try_with_mut(py, Vec::clear).unwrap_err();
        assert!(error.is_by_this_thread());
        assert_eq!(values.len(), 3);
        // Twice, and still only by this thread.
        cell.with(py, |_| {
            assert!(
                cell.try_with_mut(py, Vec::clear)
                    .unwrap_err()
                    .is_by_this_thread()
            )
        });
    });
    assert_eq!(cell.take(py), [1, 2, 3]);
    assert!(cell.replace(py, vec![4]).is_empty());
    Ok(())
}

/// A finaliser that comes back is an error where the old value is dropped inside, and none where it is replaced.
fn a_finaliser_comes_back(py: Python<'_>) -> PyResult<()> {
    static CELL: PyProtected<Option<Py<PyAny>>> = PyProtected::new(None);
    static OUTCOMES: Mutex<Vec<bool>> = Mutex::new(Vec::new());
    let mortal = || {
        let come_back = Callback::new(|py| {
            let outcome = CELL.try_with_mut(py, |_| ());
            OUTCOMES.lock().expect("no panic").push(outcome.is_ok());
            Ok(())
        });
        come_back.on_death(py)
    };
    let _ = CELL.replace(py, Some(mortal()?));
    CELL.with_mut(py, |value| *value = None);
    let _ = CELL.replace(py, Some(mortal()?));
    drop(CELL.replace(py, None));
    assert_eq!(*OUTCOMES.lock().expect("no panic"), [false, true]);
    Ok(())
}

#[pyclass(frozen, weakref)]
struct Node {
    links: PyProtected<Vec<Py<PyAny>>>,
    seen: Mutex<Option<usize>>,
}

#[pymethods]
impl Node {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let links = self.links.traverse(&visit);
        *self.seen.lock().expect("no panic") = links.map(Vec::len);
        for link in links.into_iter().flatten() {
            visit.call(link)?;
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.links.try_with_mut(py, std::mem::take));
    }
}

fn node(py: Python<'_>) -> PyResult<Py<Node>> {
    let node = Node {
        links: PyProtected::default(),
        seen: Mutex::default(),
    };
    Py::new(py, node)
}

fn the_collector_sees_what_is_not_mutably_borrowed(py: Python<'_>) -> PyResult<()> {
    let node = node(py)?;
    let Node { links, seen } = node.get();
    let sees = |py: Python<'_>| {
        collect(py);
        *seen.lock().expect("no panic")
    };
    assert_eq!(sees(py), Some(0));
    links.with_mut(py, |links| links.push(py.None()));
    links.with(py, |_| assert_eq!(sees(py), Some(1)));
    links.with_mut(py, |_| assert_eq!(sees(py), None));
    while_the_main_thread_is_suspended(py, links, true, |py| assert_eq!(sees(py), None));
    while_the_main_thread_is_suspended(py, links, false, |py| assert_eq!(sees(py), Some(1)));
    assert_eq!(sees(py), Some(1));
    Ok(())
}

fn a_cycle_is_collected(py: Python<'_>) -> PyResult<()> {
    let node = node(py)?;
    let weak = py.import("weakref")?.call_method1("ref", (&node,))?;
    let link = node.clone_ref(py).into_any();
    node.get().links.with_mut(py, |links| links.push(link));
    drop(node);
    wait_until(py, "the cycle is dead", || {
        collect(py);
        weak.call0().is_ok_and(|node| node.is_none())
    });
    Ok(())
}

/// pyo3#5317, #5242.
fn dropped_by_a_detached_thread(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(vec![py.None()]);
    cell.with_mut(py, |objects| objects.push(py.None()));
    py.detach(|| thread::scope(|scope| scope.spawn(|| drop(cell)).join()))
        .expect("no panic");
    collect(py);
    Ok(())
}

/// The process ends although threads wait for the section, one is inside for ever, and a finaliser wants in.
fn a_process_ends(py: Python<'_>) -> PyResult<()> {
    for _ in 0..10 {
        let command = child(py, "protected::ends_with_threads_inside")?;
        let finished = finish(py, command, Duration::from_secs(8))?;
        finished.expect_success();
        assert!(
            finished.output.ends_with("the call returned"),
            "{}",
            finished.output
        );
    }
    Ok(())
}

fn ends_with_threads_inside(py: Python<'_>) -> PyResult<()> {
    static CELL: PyProtected<u64> = PyProtected::new(0);
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    let names = PyDict::new(py);
    names.set_item(
        "work",
        Callback::new(|py| {
            INSIDE.fetch_add(1, SeqCst);
            loop {
                let _ = CELL.try_with_mut(py, |value| *value += 1);
                py.check_signals()?;
                py.detach(thread::yield_now);
            }
        }),
    )?;
    for _ in 0..3 {
        PythonThread::start("work()", &names)?;
    }
    Callback::new(|py| {
        let _ = CELL.try_with_mut(py, |value| *value += 1);
        Ok(())
    })
    .at_finalisation(py)?;
    wait_until(py, "all work", || INSIDE.load(SeqCst) == 3);
    Ok(())
}

/// An exclusive borrow of the cell is enough: no section, no flag.
fn without_a_section(py: Python<'_>) -> PyResult<()> {
    let mut cell = PyProtected::from(1);
    *cell.get_mut() += 1;
    assert_eq!(cell.with(py, |value| *value), 2);
    // A guard that was forgotten has borrowed a cell that nobody else can have now.
    with_critical_section_mutex(py, &cell, |entered| {
        std::mem::forget(entered.borrow_mut());
    });
    assert!(cell.try_with(py, |_| ()).is_err());
    *cell.get_mut() += 1;
    py.detach(|| *cell.get_mut() += 1);
    assert_eq!(cell.into_inner(), 4);
    assert_eq!(PyProtected::<i32>::default().into_inner(), 0);
    Ok(())
}

/// A trait object behind an `Arc`.
fn unsized_data(py: Python<'_>) -> PyResult<()> {
    let cell: Arc<PyProtected<dyn Fn(i32) -> i32 + Send + Sync>> =
        Arc::new(PyProtected::new(|number| number + 1));
    assert_eq!(cell.with(py, |f| f(1)), 2);
    let cell: Arc<PyProtected<[i32]>> = Arc::new(PyProtected::new([1, 2]));
    cell.with_mut(py, |values| values.reverse());
    assert_eq!(cell.with(py, |values| values.to_vec()), [2, 1]);
    assert_eq!(format!("{cell:?}"), "PyProtected { .. }");
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(threads_take_turns),
        test!(an_outstanding_borrow_is_told_with_its_thread),
        test!(several_readers_are_inside_at_once),
        test!(coming_back_is_told),
        test!(a_finaliser_comes_back),
        test!(the_collector_sees_what_is_not_mutably_borrowed),
        test!(a_cycle_is_collected),
        test!(dropped_by_a_detached_thread),
        test!(a_process_ends).limit(60),
        test!(without_a_section),
        test!(unsized_data),
    ],
    scenarios: &[scenario!(ends_with_threads_inside)],
};
