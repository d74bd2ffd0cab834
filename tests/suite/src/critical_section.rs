//! Critical sections: on objects, and on the cells of `PyProtected`.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3_sync::critical_section::{
    with_critical_section, with_critical_section_mutex, with_critical_section_mutex2,
    with_critical_section2,
};
use pyo3_sync::{PyMutex, PyProtected};

use crate::harness::{
    Barrier, Sleeper, on_threads, on_two_threads, rounds, wait_until, wait_until_detached,
};
use crate::interpreter::collect;
use crate::panics::panic_of;
use crate::registry::Module;
use crate::test;

const THREADS: usize = 3;

/// A place where a thread must be alone.
#[derive(Default)]
struct Alone(AtomicUsize);

impl Alone {
    /// Stays for a while, without detaching, and panics if another thread is here too.
    fn check(&self) {
        assert_eq!(self.0.fetch_add(1, SeqCst), 0, "another thread is inside");
        for _ in 0..3 {
            thread::yield_now();
        }
        assert_eq!(self.0.fetch_sub(1, SeqCst), 1, "another thread came in");
    }
}

fn list(py: Python<'_>) -> Py<PyAny> {
    PyList::empty(py).into_any().unbind()
}

/// pyo3's own test of its section on an object, with more threads.
fn sections_of_an_object_exclude_each_other(py: Python<'_>) -> PyResult<()> {
    let (object, alone) = (list(py), Alone::default());
    on_threads(py, THREADS, |py, _| {
        for _ in 0..500 {
            with_critical_section(object.bind(py), || alone.check());
        }
    });
    Ok(())
}

/// pyo3's own test of its section on a mutex, with more threads.
fn sections_of_a_cell_exclude_each_other(py: Python<'_>) -> PyResult<()> {
    let (cell, alone) = (PyProtected::new(0), Alone::default());
    on_threads(py, THREADS, |py, _| {
        for _ in 0..500 {
            with_critical_section_mutex(py, &cell, |mut entered| {
                alone.check();
                // SAFETY: nobody borrows, and nothing of Python's is called.
                let value = unsafe { entered.get_mut() };
                *value += 1;
                let expected = *value;
                // SAFETY: as above; `value` is not used any more.
                assert_eq!(unsafe { *entered.get() }, expected);
            });
        }
    });
    assert_eq!(cell.into_inner(), THREADS * 500);
    Ok(())
}

/// Threads that name two objects in opposite order go on, whether they enter both at once or one inside the other.
fn opposite_orders_go_on(py: Python<'_>) -> PyResult<()> {
    let (a, b) = (list(py), list(py));
    let (in_both, in_a, in_b) = (Alone::default(), Alone::default(), Alone::default());
    on_threads(py, 4, |py, number| {
        let (a, b) = (a.bind(py), b.bind(py));
        for _ in 0..500 {
            match number {
                0 => with_critical_section2(a, b, || in_both.check()),
                1 => with_critical_section2(b, a, || in_both.check()),
                2 => with_critical_section(a, || with_critical_section(b, || in_b.check())),
                _ => with_critical_section(b, || with_critical_section(a, || in_a.check())),
            }
        }
    });
    Ok(())
}

/// cpython#128126, #141476, #151085: whatever is entered inside a section, afterwards the section is held.
fn after_an_inner_section_the_outer_one_is_held(py: Python<'_>) -> PyResult<()> {
    let (a, b, c) = (list(py), list(py), list(py));
    let alone = Alone::default();
    on_threads(py, THREADS, |py, number| {
        let (a, b, c) = (a.bind(py), b.bind(py), c.bind(py));
        // Held before, inside where `a` is entered again, and after.
        let again = || alone.check();
        for round in rounds(400) {
            match (round + number) % 8 {
                0 => with_critical_section(a, || {
                    again();
                    with_critical_section(a, again);
                    again();
                }),
                1 => with_critical_section(a, || {
                    with_critical_section2(a, b, again);
                    again();
                }),
                2 => with_critical_section2(a, b, || {
                    with_critical_section(a, again);
                    again();
                    with_critical_section(b, || ());
                    again();
                }),
                3 => with_critical_section2(b, a, || {
                    with_critical_section2(a, b, again);
                    again();
                }),
                4 => with_critical_section(a, || {
                    with_critical_section(c, || with_critical_section(a, again));
                    again();
                }),
                5 => with_critical_section2(a, a, || {
                    again();
                    with_critical_section2(a, a, again);
                    again();
                }),
                6 => with_critical_section2(a, c, || {
                    with_critical_section2(c, b, || ());
                    again();
                }),
                _ => with_critical_section(a, || {
                    with_critical_section2(b, c, || ());
                    again();
                }),
            }
        }
    });
    Ok(())
}

/// The same for sections of cells: one in another, one in two, two in one, two in two.
fn after_an_inner_section_the_outer_one_of_a_cell_is_held(py: Python<'_>) -> PyResult<()> {
    let [a, b, c] = [0, 1, 2].map(PyProtected::new);
    let alone = Alone::default();
    on_threads(py, THREADS, |py, number| {
        let one = |cell: &PyProtected<i32>, f: &dyn Fn()| {
            with_critical_section_mutex(py, cell, |_| f());
        };
        let two = |cell: &PyProtected<i32>, other: &PyProtected<i32>, f: &dyn Fn()| {
            with_critical_section_mutex2(py, cell, other, |_, _| f());
        };
        // Held before, inside where `a` is entered again, and after.
        let again = || alone.check();
        for round in rounds(400) {
            match (round + number) % 8 {
                0 => one(&a, &|| {
                    again();
                    one(&a, &again);
                    again();
                }),
                1 => one(&a, &|| {
                    again();
                    two(&a, &b, &again);
                    again();
                }),
                2 => two(&a, &b, &|| {
                    again();
                    one(&a, &again);
                    again();
                    one(&b, &|| ());
                    again();
                }),
                3 => two(&b, &a, &|| {
                    again();
                    two(&a, &b, &again);
                    again();
                }),
                4 => one(&a, &|| {
                    one(&c, &|| one(&a, &again));
                    again();
                }),
                5 => two(&a, &a, &|| {
                    again();
                    two(&a, &a, &again);
                    again();
                }),
                6 => two(&a, &c, &|| {
                    two(&c, &b, &|| ());
                    again();
                }),
                _ => a.with(py, |_| {
                    again();
                    b.with2(py, &c, |_, _| ());
                    again();
                }),
            }
        }
    });
    Ok(())
}

fn cells_in_opposite_order(py: Python<'_>) -> PyResult<()> {
    let (a, b, alone) = (PyProtected::new(0), PyProtected::new(0), Alone::default());
    on_threads(py, 4, |py, number| {
        let add_one = |a: &mut i32, b: &mut i32| {
            alone.check();
            (*a, *b) = (*a + 1, *b + 1);
        };
        for _ in 0..500 {
            match number {
                0 => a.with2_mut(py, &b, add_one),
                1 => b.with2_mut(py, &a, add_one),
                2 => with_critical_section_mutex2(py, &a, &b, |mut a, b| {
                    alone.check();
                    // SAFETY: nobody borrows across a suspension, and nothing of Python's is called.
                    unsafe { *a.get_mut() += 1 };
                    // SAFETY: as above.
                    unsafe { *b.expect("it is another cell").get_mut() += 1 };
                }),
                _ => assert!(a.with2(py, &b, |a, b| a == b), "seen in between"),
            }
        }
    });
    assert_eq!((a.into_inner(), b.into_inner()), (1500, 1500));
    Ok(())
}

/// pyo3#6050, #6098: one mutable view of one value.
fn one_cell_twice(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(1);
    with_critical_section_mutex2(py, &cell, &cell, |_, second| assert!(second.is_none()));
    assert_eq!(cell.with2(py, &cell, |a, b| a + b), 2);
    let error = cell.try_with2_mut(py, &cell, |_, _| ()).unwrap_err();
    assert!(error.is_by_this_thread());
    cell.with_mut(py, |value| *value = 2);
    // A cell that lies in another one, where that begins perhaps, is another one.
    let outer = PyProtected::new(PyProtected::new(3));
    outer.with(py, |inner| {
        with_critical_section_mutex2(py, &outer, inner, |_, second| assert!(second.is_some()));
    });
    Ok(())
}

/// What a thread does in a section that lets others in.
type Suspend<'a> = &'a (dyn Fn(Python<'_>) + Sync);

/// One thread enters and does `suspend`, which ends when `left` is set; meanwhile another one comes in.
fn suspended(py: Python<'_>, left: &AtomicBool, suspend: Suspend<'_>) {
    let (cell, entered) = (PyProtected::new(0), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            with_critical_section_mutex(py, &cell, |cell| {
                *cell.borrow_mut() = 1;
                entered.store(true, SeqCst);
                suspend(py);
                let now = *cell.borrow();
                assert_eq!(now, 2, "what the other thread wrote is seen");
                *cell.borrow_mut() = 3;
            });
        },
        |py| {
            wait_until(py, "the first is inside", || entered.load(SeqCst));
            cell.with_mut(py, |value| {
                assert_eq!(*value, 1);
                *value = 2;
            });
            left.store(true, SeqCst);
        },
    );
    assert_eq!(cell.into_inner(), 3);
}

fn detaching_suspends(py: Python<'_>) -> PyResult<()> {
    let left = AtomicBool::new(false);
    suspended(py, &left, &|py| {
        py.detach(|| wait_until_detached("the other thread has left", || left.load(SeqCst)));
    });
    Ok(())
}

fn a_blocking_call_suspends(py: Python<'_>) -> PyResult<()> {
    let left = AtomicBool::new(false);
    let sleep = py.import("time")?.getattr("sleep")?.unbind();
    suspended(py, &left, &|py| {
        wait_until_python_sleeps(py, &sleep, &left);
    });
    Ok(())
}

fn wait_until_python_sleeps(py: Python<'_>, sleep: &Py<PyAny>, left: &AtomicBool) {
    for _ in 0..8000 {
        sleep.call1(py, (0.001,)).expect("it sleeps");
        if left.load(SeqCst) {
            return;
        }
    }
    panic!("the other thread was not let in");
}

fn waiting_for_a_mutex_of_ours_suspends(py: Python<'_>) -> PyResult<()> {
    let left = AtomicBool::new(false);
    let (mutex, held) = (PyMutex::new(()), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            wait_until(py, "the mutex is held", || held.load(SeqCst));
            suspended(py, &left, &|py| drop(mutex.lock(py)));
        },
        |py| {
            let guard = mutex.lock(py);
            held.store(true, SeqCst);
            wait_until(py, "somebody was let in", || left.load(SeqCst));
            drop(guard);
        },
    );
    Ok(())
}

/// A section that has to be waited for suspends the one around it.
fn waiting_for_another_section_suspends(py: Python<'_>) -> PyResult<()> {
    let (left, held) = (AtomicBool::new(false), AtomicBool::new(false));
    let other = list(py);
    on_two_threads(
        py,
        |py| {
            wait_until(py, "the other section is held", || held.load(SeqCst));
            suspended(py, &left, &|py| {
                with_critical_section(other.bind(py), || assert!(left.load(SeqCst)));
            });
        },
        |py| {
            with_critical_section(other.bind(py), || {
                held.store(true, SeqCst);
                // Attached, or this section would be suspended.
                wait_until_detached("somebody was let in", || left.load(SeqCst));
            });
        },
    );
    Ok(())
}

/// A waiter is detached: others attach, and the world can be stopped.
fn a_waiter_holds_nobody_up(py: Python<'_>) -> PyResult<()> {
    let (cell, inside, waiter) = (
        PyProtected::new(0),
        AtomicBool::new(false),
        Sleeper::default(),
    );
    on_two_threads(
        py,
        |py| {
            cell.with_mut(py, |value| {
                inside.store(true, SeqCst);
                wait_until_detached("the other waits", || waiter.is_asleep());
                let attached = AtomicBool::new(false);
                thread::scope(|scope| {
                    scope.spawn(|| Python::attach(|_| attached.store(true, SeqCst)));
                    wait_until_detached("a third is attached", || attached.load(SeqCst));
                });
                collect(py);
                *value += 1;
            });
        },
        |py| {
            wait_until(py, "the first is inside", || inside.load(SeqCst));
            waiter.announce();
            // It may come in while the first collects, and then finds the data borrowed.
            while cell.try_with_mut(py, |value| *value += 1).is_err() {
                py.detach(thread::yield_now);
            }
        },
    );
    assert_eq!(cell.into_inner(), 2);
    Ok(())
}

/// The same for a section of an object, and of two.
fn a_waiter_for_objects_holds_nobody_up(py: Python<'_>) -> PyResult<()> {
    let (object, other) = (list(py), list(py));
    for both in [false, true] {
        let (inside, came) = (AtomicBool::new(false), AtomicBool::new(false));
        let waiter = Sleeper::default();
        on_two_threads(
            py,
            |py| {
                with_critical_section(object.bind(py), || {
                    inside.store(true, SeqCst);
                    // Attached, or this section would be suspended.
                    wait_until_detached("the other waits", || waiter.is_asleep());
                    let attached = AtomicBool::new(false);
                    thread::scope(|scope| {
                        scope.spawn(|| Python::attach(|_| attached.store(true, SeqCst)));
                        wait_until_detached("a third is attached", || attached.load(SeqCst));
                    });
                    assert!(!came.load(SeqCst), "the section lets somebody in");
                    // Waits until all others are detached or at a safe point.
                    collect(py);
                });
            },
            |py| {
                wait_until(py, "the first is inside", || inside.load(SeqCst));
                waiter.announce();
                let come = || came.store(true, SeqCst);
                if both {
                    with_critical_section2(other.bind(py), object.bind(py), come);
                } else {
                    with_critical_section(object.bind(py), come);
                }
            },
        );
        assert!(came.into_inner());
    }
    Ok(())
}

/// cpython#144513, #133130: contended for more than a millisecond, then the owner collects.
fn the_collector_runs_inside(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(Vec::<Py<PyAny>>::new());
    let failures = AtomicUsize::new(0);
    on_threads(py, THREADS, |py, _| {
        for _ in 0..40 {
            let result = cell.try_with_mut(py, |objects| {
                thread::sleep(std::time::Duration::from_millis(2));
                collect(py);
                objects.push(list(py));
                objects.len()
            });
            if result.is_err() {
                failures.fetch_add(1, SeqCst);
            }
        }
    });
    let length = cell.with(py, Vec::len);
    assert_eq!(length + failures.load(SeqCst), THREADS * 40);
    Ok(())
}

/// Several operations on a list are one step for threads that use it through Python.
fn python_comes_in_between_sections_only(py: Python<'_>) -> PyResult<()> {
    let shared = list(py);
    let append = shared.getattr(py, "append")?;
    on_threads(py, THREADS, |py, number| {
        let list = shared.bind(py).cast::<PyList>().expect("it is a list");
        for _ in 0..500 {
            if number == 0 {
                append.call1(py, (-1,)).expect("it appends");
            } else {
                with_critical_section(list, || {
                    let length = list.len();
                    thread::yield_now();
                    list.append(length).expect("it appends");
                });
            }
        }
    });
    let values: Vec<i64> = shared.extract(py)?;
    assert_eq!(values.len(), THREADS * 500);
    for (place, value) in values.into_iter().enumerate() {
        assert!(value == -1 || value == place as i64, "{value} at {place}");
    }
    Ok(())
}

/// Two containers that extend each other end in one of the two serial outcomes: lists, and cells through each of the ways into two.
fn extending_each_other_is_serial(py: Python<'_>) -> PyResult<()> {
    const SERIAL: [([i64; 3], [i64; 3]); 2] = [([1, 2, 0], [2, 1, 2]), ([1, 2, 1], [2, 1, 0])];
    type Cell = PyProtected<Vec<i64>>;
    fn push_all(to: &mut Vec<i64>, from: &[i64]) {
        for value in from {
            thread::yield_now();
            to.push(*value);
        }
    }
    let extend = |to: &Bound<'_, PyList>, from: &Bound<'_, PyList>| {
        with_critical_section2(to, from, || {
            for place in 0..from.len() {
                thread::yield_now();
                to.append(from.get_item(place)?)?;
            }
            PyResult::Ok(())
        })
    };
    let extend_borrowed = |py: Python<'_>, to: &Cell, from: &Cell| {
        to.with2_mut(py, from, |to, from| push_all(to, from));
    };
    let extend_entered = |py: Python<'_>, to: &Cell, from: &Cell| {
        with_critical_section_mutex2(py, to, from, |mut to, from| {
            let from = from.expect("it is another cell");
            // SAFETY: nobody borrows, and nothing of Python's is called.
            let (to, from) = unsafe { (to.get_mut(), from.get()) };
            push_all(to, from);
        });
    };
    let extend_with_guards = |py: Python<'_>, to: &Cell, from: &Cell| {
        let extended = || {
            with_critical_section_mutex2(py, to, from, |to, from| {
                let from = from.expect("it is another cell");
                // To borrow is to enter again, which may let the other thread in, and then either finds data borrowed.
                let borrowed = to.try_borrow_mut().ok().zip(from.try_borrow().ok());
                borrowed
                    .map(|(mut to, from)| push_all(&mut to, &from))
                    .is_some()
            })
        };
        while !extended() {
            py.detach(thread::yield_now);
        }
    };
    for _ in rounds(200) {
        let lists = [
            PyList::new(py, [1])?.unbind(),
            PyList::new(py, [2])?.unbind(),
        ];
        let cells: [[Cell; 2]; 3] = [(); 3].map(|()| [vec![1], vec![2]].map(PyProtected::new));
        let start = Barrier::new(2);
        let outcomes = on_threads(py, 2, |py, mine| {
            let other = 1 - mine;
            let meet = || start.meet(py);
            meet();
            extend_borrowed(py, &cells[0][mine], &cells[0][other]);
            meet();
            extend_entered(py, &cells[1][mine], &cells[1][other]);
            meet();
            extend_with_guards(py, &cells[2][mine], &cells[2][other]);
            meet();
            extend(lists[mine].bind(py), lists[other].bind(py))
        });
        outcomes.into_iter().collect::<PyResult<()>>()?;
        let three = |mut values: Vec<i64>| -> [i64; 3] {
            values.resize(3, 0);
            values.try_into().expect("there are three")
        };
        let lists = (three(lists[0].extract(py)?), three(lists[1].extract(py)?));
        assert!(SERIAL.contains(&lists), "{lists:?}");
        for [a, b] in cells {
            let vectors = (three(a.into_inner()), three(b.into_inner()));
            assert!(SERIAL.contains(&vectors), "{vectors:?}");
        }
    }
    Ok(())
}

/// pyo3#6437: a panic, or an error, ends the section and the borrow.
fn a_panic_ends_the_section(py: Python<'_>) -> PyResult<()> {
    let (object, cell) = (list(py), PyProtected::new(0));
    let bound = object.bind(py);
    assert_eq!(
        panic_of(|| with_critical_section(bound, || panic!("one"))),
        "one"
    );
    assert_eq!(
        panic_of(|| with_critical_section2(bound, bound, || panic!("two"))),
        "two"
    );
    assert_eq!(panic_of(|| cell.with_mut(py, |_| panic!("three"))), "three");
    assert_eq!(panic_of(|| cell.with(py, |_| panic!("four"))), "four");
    let early = || -> PyResult<i32> {
        with_critical_section_mutex(py, &cell, |cell| {
            let mut value = cell.try_borrow_mut()?;
            *value = 7;
            Err(pyo3::exceptions::PyValueError::new_err("early"))
        })
    };
    assert!(early().is_err());
    on_threads(py, 1, |py, _| {
        with_critical_section(object.bind(py), || ());
        cell.with_mut(py, |value| assert_eq!(*value, 7));
    });
    Ok(())
}

/// A borrow that is made and ended while the section of its cell is suspended by one inside it: the flag stays true.
fn borrows_in_a_suspended_section_are_counted(py: Python<'_>) -> PyResult<()> {
    let (cell, contended) = (PyProtected::new(Cell::new(0_usize)), list(py));
    let borrows = AtomicUsize::new(0);
    on_threads(py, THREADS, |py, _| {
        for round in rounds(2000) {
            with_critical_section_mutex(py, &cell, |entered| {
                if round % 2 == 0 {
                    if let Ok(guard) = entered.try_borrow_mut() {
                        borrows.fetch_add(1, SeqCst);
                        let before = guard.get();
                        with_critical_section(contended.bind(py), || {
                            guard.set(before + 1);
                            drop(guard);
                        });
                    }
                } else {
                    with_critical_section(contended.bind(py), || {
                        if let Ok(guard) = entered.try_borrow_mut() {
                            borrows.fetch_add(1, SeqCst);
                            let before = guard.get();
                            thread::yield_now();
                            guard.set(before + 1);
                        }
                    });
                }
            });
        }
    });
    assert!(borrows.load(SeqCst) > 0);
    assert_eq!(cell.into_inner().get(), borrows.load(SeqCst));
    Ok(())
}

fn a_leaked_guard_leaves_the_data_borrowed(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(0);
    with_critical_section_mutex(py, &cell, |entered| {
        std::mem::forget(entered.borrow());
        assert!(entered.try_borrow().is_ok());
        assert!(entered.try_borrow_mut().unwrap_err().is_by_this_thread());
    });
    assert_eq!(cell.with(py, |value| *value), 0);
    assert!(cell.try_with_mut(py, |_| ()).is_err());
    Ok(())
}

/// As for `RefCell`: `borrow` panics where `try_borrow` returns an error.
fn borrow_panics_where_try_borrow_fails(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(0);
    with_critical_section_mutex(py, &cell, |entered| {
        let exclusive = entered.borrow_mut();
        assert!(entered.try_borrow().is_err());
        let panic = panic_of(|| drop(entered.borrow()));
        assert!(panic.starts_with("already borrowed"), "{panic}");
        assert!(panic.contains(file!()), "{panic}");
        drop(exclusive);

        let shared = entered.borrow();
        assert_eq!(*entered.borrow(), 0);
        assert!(entered.try_borrow_mut().is_err());
        let panic = panic_of(|| drop(entered.borrow_mut()));
        assert!(panic.contains("to mutably borrow"), "{panic}");
        drop(shared);

        // A panic leaves no borrow behind.
        *entered.borrow_mut() += 1;
    });
    assert_eq!(cell.into_inner(), 1);
    Ok(())
}

const NO_SECTIONS: &str = "where there is a GIL nobody else runs while a thread stays attached";

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(sections_of_an_object_exclude_each_other),
        test!(sections_of_a_cell_exclude_each_other),
        test!(opposite_orders_go_on),
        test!(after_an_inner_section_the_outer_one_is_held),
        test!(after_an_inner_section_the_outer_one_of_a_cell_is_held),
        test!(cells_in_opposite_order),
        test!(one_cell_twice),
        test!(detaching_suspends),
        test!(a_blocking_call_suspends),
        test!(waiting_for_a_mutex_of_ours_suspends),
        test!(waiting_for_another_section_suspends).only_free_threaded(NO_SECTIONS),
        test!(a_waiter_holds_nobody_up).only_free_threaded(NO_SECTIONS),
        test!(a_waiter_for_objects_holds_nobody_up).only_free_threaded(NO_SECTIONS),
        test!(the_collector_runs_inside).limit(30),
        test!(python_comes_in_between_sections_only),
        test!(extending_each_other_is_serial),
        test!(a_panic_ends_the_section),
        test!(borrows_in_a_suspended_section_are_counted),
        test!(a_leaked_guard_leaves_the_data_borrowed),
        test!(borrow_panics_where_try_borrow_fails),
    ],
    scenarios: &[],
};
