//! `PyProtected` and its critical section beside PyO3's section on a mutex, which has no borrow flag.

use std::{cell::RefCell, hint::black_box};

use pyo3::{Python, types::PyList};
use pyo3_sync::{
    PyMutex, PyProtected,
    critical_section::{with_critical_section, with_critical_section_mutex},
};

use crate::{
    FREE_THREADED,
    fight::{Rules, Work, compare_fights, fight},
    harness::{EMPTY_LOOP, Group, OURS, Outcome, Peer, Subject, compare},
};

pub(crate) const GROUP: Group = Group {
    name: "protected",
    benchmarks: &[
        ("with", with),
        ("with_mut", with_mut),
        ("with_mut, in a function", with_mut_in_function),
        ("with2_mut", with2_mut),
        ("section without a borrow", section),
        ("section, borrow_mut", borrow_mut),
        ("section of an object", object_section),
    ],
    free_threaded_only: &[
        ("contended, 0 ns, 1 thread", contended::<0, 1>),
        ("contended, 0 ns, 2 threads", contended::<0, 2>),
        ("contended, 0 ns, 4 threads", contended::<0, 4>),
        ("contended, 0 ns, 8 threads", contended::<0, 8>),
        ("contended, 100 ns, 1 thread", contended::<100, 1>),
        ("contended, 100 ns, 2 threads", contended::<100, 2>),
        ("contended, 100 ns, 4 threads", contended::<100, 4>),
        ("contended, 100 ns, 8 threads", contended::<100, 8>),
        ("contended, 1000 ns, 1 thread", contended::<1000, 1>),
        ("contended, 1000 ns, 2 threads", contended::<1000, 2>),
        ("contended, 1000 ns, 4 threads", contended::<1000, 4>),
        ("contended, 1000 ns, 8 threads", contended::<1000, 8>),
    ],
};

const PYO3: &str = "pyo3, section on a mutex";
const PYO3_OBJECT: &str = "pyo3, section of an object";
const REF_CELL: &str = "RefCell, no section";

/// In a cache line of its own, with the one behind it that some processors fetch along.
#[repr(align(128))]
struct Apart<T>(T);

/// Shows a subject to the compiler as one that others know, so that no change to its flag can be left out.
fn known_to_others<T>(subject: T) -> Box<Apart<T>> {
    let subject = Box::new(Apart(subject));
    black_box(&*subject);
    subject
}

/// Those that every benchmark compares with.
fn peers(py: Python<'_>) -> Vec<Subject<'_>> {
    let mut peers = vec![std_mutex(), Subject::empty_loop()];
    peers.extend(pyo3_section(py));
    peers
}

/// Before Python 3.14 there is none.
#[cfg(not(Py_3_14))]
fn pyo3_section(_py: Python<'_>) -> Option<Subject<'_>> {
    None
}

#[cfg(Py_3_14)]
fn pyo3_section(py: Python<'_>) -> Option<Subject<'_>> {
    use pyo3::sync::{critical_section::with_critical_section_mutex, nonpoison::PyMutex};
    let mutex = known_to_others(PyMutex::new(0_u64));
    Some(Subject::repeated(PYO3, move || {
        with_critical_section_mutex(py, &mutex.0, |mut data| {
            // SAFETY: nothing is called with the reference.
            black_box(unsafe { data.get_mut() });
        });
    }))
}

fn std_mutex<'a>() -> Subject<'a> {
    let mutex = known_to_others(std::sync::Mutex::new(0_u64));
    Subject::repeated("std::sync::Mutex", move || {
        black_box(&mut *mutex.0.lock().expect("nothing panics"));
    })
}

fn compare_with_peers<'py>(py: Python<'py>, mut subjects: Vec<Subject<'py>>) -> Outcome {
    subjects.extend(peers(py));
    compare(31, subjects)
}

/// The limits for a borrow in a section of its own.
fn with_targets(outcome: Outcome) -> Outcome {
    if FREE_THREADED {
        outcome.target(Peer::Named(PYO3), 1.15)
    } else {
        outcome.target(Peer::Nanosecond, 1.0)
    }
}

fn with(py: Python<'_>) -> Outcome {
    let ours = known_to_others(PyProtected::new(0_u64));
    let cell = known_to_others(RefCell::new(0_u64));
    let subjects = vec![
        Subject::repeated(OURS, || {
            ours.0.with(py, |data| {
                black_box(data);
            });
        }),
        Subject::repeated(REF_CELL, || {
            black_box(&*cell.0.borrow());
        }),
    ];
    with_targets(compare_with_peers(py, subjects))
}

fn with_mut(py: Python<'_>) -> Outcome {
    let ours = known_to_others(PyProtected::new(0_u64));
    let cell = known_to_others(RefCell::new(0_u64));
    let subjects = vec![
        Subject::repeated(OURS, || {
            ours.0.with_mut(py, |data| {
                black_box(data);
            });
        }),
        Subject::repeated(REF_CELL, || {
            black_box(&mut *cell.0.borrow_mut());
        }),
    ];
    with_targets(compare_with_peers(py, subjects))
}

/// Where the compiler cannot move anything out of the loop.
fn with_mut_in_function(py: Python<'_>) -> Outcome {
    #[inline(never)]
    fn call(py: Python<'_>, ours: &PyProtected<u64>) {
        ours.with_mut(py, |data| {
            black_box(data);
        });
    }
    #[inline(never)]
    fn call_cell(cell: &RefCell<u64>) {
        black_box(&mut *cell.borrow_mut());
    }
    let ours = known_to_others(PyProtected::new(0_u64));
    let cell = known_to_others(RefCell::new(0_u64));
    #[allow(unused_mut, reason = "not in every build")]
    let mut subjects = vec![
        Subject::repeated(OURS, || call(py, &ours.0)),
        Subject::repeated(REF_CELL, || call_cell(&cell.0)),
        Subject::empty_loop(),
    ];
    #[cfg(Py_3_14)]
    {
        use pyo3::sync::{critical_section::with_critical_section_mutex, nonpoison::PyMutex};
        #[inline(never)]
        fn call_pyo3(py: Python<'_>, mutex: &PyMutex<u64>) {
            with_critical_section_mutex(py, mutex, |mut data| {
                // SAFETY: nothing is called with the reference.
                black_box(unsafe { data.get_mut() });
            });
        }
        let mutex = known_to_others(PyMutex::new(0_u64));
        subjects.push(Subject::repeated(PYO3, move || call_pyo3(py, &mutex.0)));
    }
    let outcome = compare(31, subjects);
    if FREE_THREADED {
        outcome.target(Peer::Named(PYO3), 1.15)
    } else {
        outcome
    }
}

fn with2_mut(py: Python<'_>) -> Outcome {
    let ours = known_to_others((PyProtected::new(0_u64), PyProtected::new(0_u64)));
    let mutexes = Apart((std::sync::Mutex::new(0_u64), std::sync::Mutex::new(0_u64)));
    #[allow(unused_mut, reason = "not in every build")]
    let mut subjects = vec![
        Subject::repeated(OURS, || {
            ours.0.0.with2_mut(py, &ours.0.1, |a, b| {
                black_box((a, b));
            });
        }),
        Subject::repeated("std::sync::Mutex, two", || {
            let (a, b) = (mutexes.0.0.lock(), mutexes.0.1.lock());
            black_box((a.as_deref().ok(), b.as_deref().ok()));
        }),
        Subject::empty_loop(),
    ];
    #[cfg(Py_3_14)]
    {
        use pyo3::sync::{critical_section::with_critical_section_mutex2, nonpoison::PyMutex};
        let pair = known_to_others((PyMutex::new(0_u64), PyMutex::new(0_u64)));
        subjects.push(Subject::repeated(PYO3, move || {
            with_critical_section_mutex2(py, &pair.0.0, &pair.0.1, |mut a, b| {
                // SAFETY: nothing is called with the references.
                black_box(unsafe { (a.get_mut(), b.map(|mut b| *b.get_mut())) });
            });
        }));
    }
    compare(31, subjects)
}

/// The section alone, and the data without a borrow: the very thing that PyO3's is.
fn section(py: Python<'_>) -> Outcome {
    let ours = known_to_others(PyProtected::new(0_u64));
    let subjects = vec![Subject::repeated(OURS, || {
        with_critical_section_mutex(py, &ours.0, |mut data| {
            // SAFETY: nothing is called with the reference, and nothing else uses the data.
            black_box(unsafe { data.get_mut() });
        });
    })];
    compare_with_peers(py, subjects).target(Peer::Named(PYO3), 1.0)
}

/// A borrow with a guard, which enters the section three times.
fn borrow_mut(py: Python<'_>) -> Outcome {
    let ours = known_to_others(PyProtected::new(0_u64));
    let subjects = vec![Subject::repeated(OURS, || {
        with_critical_section_mutex(py, &ours.0, |data| {
            black_box(&mut *data.borrow_mut());
        });
    })];
    compare_with_peers(py, subjects)
}

/// The section of an object, which with a GIL is nothing at all.
fn object_section(py: Python<'_>) -> Outcome {
    let list = PyList::empty(py);
    let list = black_box(&list);
    let subjects = vec![
        Subject::repeated(OURS, || with_critical_section(list, || ())),
        Subject::repeated(PYO3_OBJECT, || {
            pyo3::sync::critical_section::with_critical_section(list, || ());
        }),
        Subject::empty_loop(),
    ];
    let outcome = compare(31, subjects);
    if FREE_THREADED {
        outcome.target(Peer::Named(PYO3_OBJECT), 1.0)
    } else {
        outcome.target(Peer::Named(EMPTY_LOOP), 1.0)
    }
}

/// `THREADS` threads that do nothing but enter the section, change the data for so many nanoseconds, leave.
fn contended<const NANOSECONDS: u64, const THREADS: usize>(py: Python<'_>) -> Outcome {
    let work = Work::lasting(NANOSECONDS);
    let rules = Rules::throughput(THREADS);
    #[allow(unused_mut, reason = "not in every build")]
    let mut subjects = vec![
        Subject::new(OURS, move || {
            let ours = known_to_others(PyProtected::new(0_u64));
            fight(py, rules, |py, _| {
                ours.0.with_mut(py, |data| work.run(data))
            })
        }),
        Subject::new("pyo3-sync, PyMutex", move || {
            let mutex = known_to_others(PyMutex::new(0_u64));
            fight(py, rules, |py, _| work.run(&mut mutex.0.lock(py)))
        }),
        Subject::new("std::sync::Mutex", move || {
            let mutex = known_to_others(std::sync::Mutex::new(0_u64));
            fight(py, rules, |_, _| {
                work.run(&mut mutex.0.lock().expect("nothing panics"));
            })
        }),
    ];
    #[cfg(Py_3_14)]
    {
        use pyo3::sync::{critical_section::with_critical_section_mutex, nonpoison};
        subjects.push(Subject::new(PYO3, move || {
            let mutex = known_to_others(nonpoison::PyMutex::new(0_u64));
            fight(py, rules, |py, _| {
                with_critical_section_mutex(py, &mutex.0, |mut data| {
                    // SAFETY: nothing is called with the reference.
                    work.run(unsafe { data.get_mut() });
                });
            })
        }));
    }
    compare_fights(subjects, THREADS)
}
