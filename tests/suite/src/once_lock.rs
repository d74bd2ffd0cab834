//! `PyOnceLock`: one initialisation whatever happens, and no hang.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};
use pyo3_sync::{PyOnceLock, Wait};

use crate::callback::Callback;
use crate::harness::{
    Barrier, PythonThread, Sleeper, child, finish, on_threads, on_two_threads, rounds, wait_until,
    wait_until_detached, work_for, yield_until_detached,
};
use crate::interpreter::{collect, wait_until_an_import_blocks, without_letting_go};
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::{scenario, test};

const THREADS: usize = 64;
const CHILD_LIMIT: Duration = Duration::from_secs(6);

fn behaves_as_the_cell_it_replaces(py: Python<'_>) -> PyResult<()> {
    let mut cell = PyOnceLock::new();
    assert_eq!(cell.get(py), None);
    assert_eq!(cell.get_or_try_init(py, || Err(5)), Err(5));
    assert_eq!(cell.get(py), None);
    assert_eq!(cell.get_or_try_init(py, || Ok::<_, i32>(2)), Ok(&2));
    assert_eq!(cell.get_or_try_init(py, || Err(5)), Ok(&2));
    assert_eq!(cell.get_or_init(py, || 3), &2);
    assert_eq!(cell.set(py, 4), Err(4));
    *cell.get_mut().expect("it is filled") = 6;
    assert_eq!(cell.take(), Some(6));
    assert_eq!(cell.get(py), None);
    assert_eq!(cell.set(py, 7), Ok(()));
    assert_eq!(cell.into_inner(), Some(7));

    let object = PyOnceLock::new();
    assert!(object.clone_ref(py).get(py).is_none());
    object.get_or_init(py, || py.None());
    assert!(
        object
            .clone_ref(py)
            .get(py)
            .is_some_and(|it| it.is_none(py))
    );
    Ok(())
}

fn goes_beyond_the_cell_it_replaces(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::new();
    assert_eq!(cell.peek(), None);
    assert!(!cell.is_initialized());
    assert_eq!(format!("{cell:?}"), "PyOnceLock(<empty>)");
    assert_eq!(cell.try_insert(py, 1), Ok(&1));
    assert_eq!(cell.try_insert(py, 2), Err((&1, 2)));
    assert_eq!(cell.wait(py), &1);
    assert_eq!(py.detach(|| cell.peek()), Some(&1));
    assert!(cell.is_initialized());
    assert_eq!(format!("{cell:?}"), "PyOnceLock(1)");
    assert_eq!(cell.clone(), cell);
    assert_eq!(cell.clone(), PyOnceLock::from(1));
    assert_ne!(cell, PyOnceLock::default());
    assert_eq!(cell.get_or_init_py_attached(py, || 9), &1);
    assert_eq!(cell.get_or_init_checked(py, || 9)?, &1);
    let checked = PyOnceLock::new();
    let value = checked.get_or_init_checked(py, || {
        let error = checked.get_or_init_checked(py, || 3).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is running the initializer of the PyOnceLock"),
            "{error}"
        );
        2
    });
    assert_eq!(value?, &2);

    let error = PyOnceLock::<i32>::new()
        .get_or_try_init_py(py, || Err(PyValueError::new_err("no")))
        .unwrap_err();
    assert!(error.is_instance_of::<PyValueError>(py));
    Ok(())
}

/// Nothing is dropped twice, or never.
fn drops_what_it_owns_once(py: Python<'_>) -> PyResult<()> {
    let drops = AtomicUsize::new(0);
    let value = || OnDrop(|| drops.fetch_add(1, SeqCst));
    let filled = || {
        let cell = PyOnceLock::new();
        assert!(cell.set(py, value()).is_ok());
        cell
    };
    drop(PyOnceLock::<OnDrop<fn() -> usize>>::new());
    drop(filled());
    assert_eq!(drops.load(SeqCst), 1);
    drop(filled().into_inner());
    assert_eq!(drops.load(SeqCst), 2);
    drop(filled().take());
    assert_eq!(drops.load(SeqCst), 3);
    drop(filled().set(py, value()).err());
    assert_eq!(drops.load(SeqCst), 5);
    // A moved cell takes its value along, whatever the alignment of the value.
    #[repr(align(64))]
    struct Aligned<T>(T);
    let aligned = PyOnceLock::from(Aligned(value()));
    let mut cells = vec![PyOnceLock::new(), aligned];
    cells.swap(0, 1);
    assert!(cells[0].get_mut().is_some_and(|value| (value.0.0)() == 5));
    assert!(cells[1].get_mut().is_none());
    drop(cells);
    assert_eq!(drops.load(SeqCst), 7);
    Ok(())
}

/// pyo3#975, pyo3#4512, pybind11#4877.
fn one_thread_initialises_while_it_detaches(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::new();
    let (arrived, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let values = on_threads(py, THREADS, |py, number| {
        arrived.fetch_add(1, SeqCst);
        *cell.get_or_init(py, || {
            runs.fetch_add(1, SeqCst);
            // With a GIL the others arrive only if the waiting ones let go of it.
            py.detach(|| {
                wait_until_detached("all have arrived", || arrived.load(SeqCst) == THREADS);
            });
            number
        })
    });
    assert_eq!(runs.load(SeqCst), 1);
    assert!(values.iter().all(|value| Some(value) == cell.get(py)));
    Ok(())
}

/// How an initialiser that does not succeed ends.
#[derive(Clone, Copy)]
enum Failure {
    Error,
    Panic,
}

/// All threads but one fail to initialise, one at a time, and each is followed by another.
fn a_failure_is_followed_by_another_try(py: Python<'_>, failure: Failure) {
    let cell = PyOnceLock::new();
    let (runs, running) = (AtomicUsize::new(0), AtomicBool::new(false));
    let barrier = Barrier::new(THREADS);
    let results = on_threads(py, THREADS, |py, number| {
        barrier.meet(py);
        let initialise = || {
            assert!(!running.swap(true, SeqCst), "two initialisers at once");
            let run = runs.fetch_add(1, SeqCst);
            py.detach(thread::yield_now);
            running.store(false, SeqCst);
            match failure {
                _ if run == THREADS - 1 => Ok(number),
                Failure::Error => Err(number),
                Failure::Panic => panic!("as it should"),
            }
        };
        catch_unwind(AssertUnwindSafe(|| {
            cell.get_or_try_init(py, initialise).copied()
        }))
    });
    assert_eq!(runs.load(SeqCst), THREADS);
    let filled = results
        .iter()
        .enumerate()
        .filter(|(number, result)| match (failure, result) {
            (_, Ok(Ok(value))) => value == number,
            (Failure::Error, Ok(Err(error))) => {
                assert_eq!(error, number);
                false
            }
            (Failure::Panic, Err(_)) => false,
            _ => panic!("ended in another way"),
        });
    assert_eq!(filled.count(), 1);
}

fn an_error_is_followed_by_another_try(py: Python<'_>) -> PyResult<()> {
    a_failure_is_followed_by_another_try(py, Failure::Error);
    Ok(())
}

fn a_panic_is_followed_by_another_try(py: Python<'_>) -> PyResult<()> {
    a_failure_is_followed_by_another_try(py, Failure::Panic);
    Ok(())
}

/// The initialiser fails with one thread asleep that would take over and one that only waits: the right one is woken.
fn a_failure_wakes_one_that_takes_over(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let cell = PyOnceLock::new();
        let inside = Barrier::new(4);
        let values = on_threads(py, 4, |py, number| match number {
            0 => cell
                .get_or_try_init(py, || {
                    inside.meet(py);
                    py.detach(thread::yield_now);
                    Err::<usize, usize>(number)
                })
                .unwrap_or(&100)
                .to_owned(),
            3 => {
                inside.meet(py);
                *cell.get_or_init(py, || number)
            }
            _ => {
                inside.meet(py);
                *cell.wait(py)
            }
        });
        assert!(
            values == [100, 3, 3, 3] || values == [3, 3, 3, 3],
            "{values:?}"
        );
    }
    Ok(())
}

/// A parked thread polls once, after 300 ms, which would hide that the wake-up went to a waiter of
/// another cell. So the waiters are older than that.
fn a_failure_wakes_a_waiter_of_its_own_cell(py: Python<'_>) -> PyResult<()> {
    let (cell, other) = (PyOnceLock::new(), PyOnceLock::new());
    let (fail, end) = (AtomicBool::new(false), AtomicBool::new(false));
    let (of_other, of_cell) = (Sleeper::new(), Sleeper::new());
    let inside = Barrier::new(3);
    let initializer = |py: Python<'_>, ends: &AtomicBool| {
        inside.meet(py);
        wait_until(py, "the initializer may end", || ends.load(SeqCst));
    };
    py.detach(|| {
        thread::scope(|scope| {
            let failing = scope.spawn(|| {
                Python::attach(|py| {
                    let filled = cell.get_or_try_init(py, || {
                        initializer(py, &fail);
                        Err::<u32, ()>(())
                    });
                    filled.copied()
                })
            });
            let completing = scope.spawn(|| {
                Python::attach(|py| {
                    *other.get_or_init(py, || {
                        initializer(py, &end);
                        1
                    })
                })
            });
            inside.meet_detached();
            let waiter_of_other = scope.spawn(|| {
                Python::attach(|py| {
                    of_other.announce();
                    *other.get_or_init(py, || 2)
                })
            });
            wait_until_detached("it waits for the other cell", || of_other.is_asleep());
            let waiter = scope.spawn(|| {
                Python::attach(|py| {
                    of_cell.announce();
                    *cell.get_or_init(py, || 3)
                })
            });
            wait_until_detached("it waits for the cell", || of_cell.is_asleep());
            thread::sleep(Duration::from_millis(400));
            fail.store(true, SeqCst);
            assert_eq!(waiter.join().expect("it fills the cell"), 3);
            end.store(true, SeqCst);
            assert_eq!(failing.join().expect("it fails"), Err(()));
            assert_eq!(completing.join().expect("it completes"), 1);
            assert_eq!(waiter_of_other.join().expect("it gets the value"), 1);
        });
    });
    Ok(())
}

/// The initialiser fails at any moment while another thread is on its way to sleep, which must not miss it.
fn no_sleeper_is_forgotten(py: Python<'_>) -> PyResult<()> {
    const ROUNDS: usize = 4000;
    let cells = [const { PyOnceLock::new() }; ROUNDS];
    let inside = Barrier::new(2);
    on_threads(py, 2, |py, number| {
        for (round, cell) in cells.iter().enumerate() {
            if number == 0 {
                let failed = cell.get_or_try_init(py, || {
                    inside.meet(py);
                    let time = Duration::from_nanos((round % 400 * 100) as u64);
                    py.detach(|| work_for(time));
                    Err(())
                });
                assert_eq!(failed, Err(()));
            } else {
                inside.meet(py);
                cell.get_or_init(py, || round); // Sleeps for ever if it is forgotten.
            }
        }
    });
    assert!(cells.iter().all(PyOnceLock::is_initialized));
    Ok(())
}

/// `set` of `pyo3::sync::PyOnceLock` 0.30.1 waits attached here, for ever.
fn set_waits_for_an_initialiser_that_needs_the_interpreter(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::new();
    let (inside, setting) = (AtomicBool::new(false), AtomicBool::new(false));
    let (value, refused) = on_two_threads(
        py,
        |py| {
            *cell.get_or_init(py, || {
                inside.store(true, SeqCst);
                py.detach(|| wait_until_detached("the other sets", || setting.load(SeqCst)));
                // Without a GIL this waits until the other thread is detached.
                collect(py);
                1
            })
        },
        |py| {
            py.detach(|| wait_until_detached("the initialiser runs", || inside.load(SeqCst)));
            setting.store(true, SeqCst);
            cell.set(py, 2)
        },
    );
    assert_eq!((value, refused), (1, Err(2)));
    Ok(())
}

/// pyo3#6390: without a GIL a collection waits for all attached threads, so a cell must not make them wait attached.
fn a_collection_finishes_during_an_initialisation(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::new();
    let (inside, collected) = (AtomicUsize::new(0), AtomicBool::new(false));
    on_threads(py, 6, |py, number| {
        if number == 0 {
            py.detach(|| wait_until_detached("all are in the cell", || inside.load(SeqCst) == 5));
            for _ in 0..10 {
                collect(py);
            }
            collected.store(true, SeqCst);
        } else {
            inside.fetch_add(1, SeqCst);
            cell.get_or_init(py, || {
                while !collected.load(SeqCst) {
                    PyList::empty(py); // A safe point now and then, as any initialiser has.
                    py.detach(thread::yield_now);
                }
            });
        }
    });
    Ok(())
}

/// pyo3#4764: an initialisation that nobody contends for leaves the interpreter alone.
fn an_uncontended_initialisation_does_not_detach(py: Python<'_>) -> PyResult<()> {
    let imported = PyOnceLock::<Py<PyAny>>::new();
    imported.import(py, "sys", "maxsize")?;
    without_letting_go(py, |py| {
        for number in 0..20_000 {
            let cell = PyOnceLock::new();
            assert_eq!(cell.get_or_init(py, || number), &number);
            assert_eq!(cell.get(py), Some(&number));
            assert_eq!(cell.set(py, 1), Err(1));
            assert_eq!(cell.try_insert(py, 1), Err((&number, 1)));
            assert_eq!(cell.wait(py), &number);
            let waited = cell.wait_with(py, Wait::new().interruptible());
            assert_eq!(waited.expect("it is filled"), &number);

            let cell = PyOnceLock::new();
            assert!(
                cell.get_or_try_init_py(py, || Ok(number))
                    .is_ok_and(|value| *value == number)
            );
            assert!(cell.get_or_try_init_py(py, || Ok(1)).is_ok());
            assert_eq!(PyOnceLock::new().try_insert(py, number), Ok(&number));
            let checked = PyOnceLock::new();
            assert!(checked.get_or_init_checked(py, || number).is_ok());
            assert_eq!(
                PyOnceLock::new().get_or_try_init(py, || Err::<i32, _>(number)),
                Err(number)
            );
            assert!(imported.import(py, "not even", "looked at").is_ok());
        }
    })
}

/// pyo3#4671, pyo3#2950.
fn an_initialiser_that_asks_for_its_own_cell_is_told(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::new();
    let value = cell.get_or_init(py, || {
        for message in [
            panic_of(|| cell.get_or_init(py, || 1)),
            panic_of(|| cell.set(py, 1)),
            panic_of(|| cell.wait(py)),
        ] {
            assert!(
                message.contains("is running the initializer of the PyOnceLock"),
                "{message}"
            );
            assert!(message.contains("\"MainThread\" (0x"), "{message}");
            assert!(message.contains("once_lock.rs:"), "{message}");
        }
        let error = cell.get_or_try_init_py(py, || Ok(1)).unwrap_err();
        assert!(error.is_instance_of::<PyRuntimeError>(py));
        assert!(error.is_instance_of::<pyo3_sync::exceptions::DeadlockError>(py));
        assert!(error.traceback(py).is_none());
        assert_eq!(cell.get(py), None);
        2
    });
    assert_eq!(value, &2);
    Ok(())
}

/// PyO3 drops what detached code gave up when a thread attaches again: here in the middle of the initialiser.
fn a_finaliser_in_the_middle_of_the_initialiser_is_told(py: Python<'_>) -> PyResult<()> {
    static CELL: PyOnceLock<i32> = PyOnceLock::new();
    static TOLD: AtomicBool = AtomicBool::new(false);
    let callback = Callback::new(|py| {
        assert_eq!(CELL.get(py), None);
        let error = CELL.get_or_try_init_py(py, || Ok(1)).unwrap_err();
        TOLD.store(error.to_string().contains("deadlock"), SeqCst);
        Ok(())
    });
    let dies_noisily = callback.on_death(py)?;
    let value = CELL.get_or_init(py, || {
        py.detach(|| drop(dies_noisily));
        2
    });
    assert_eq!(value, &2);
    assert!(
        TOLD.load(SeqCst),
        "the finaliser has not run, or not in time"
    );
    Ok(())
}

fn imports_once(py: Python<'_>) -> PyResult<()> {
    static ORDERED_DICT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let first = ORDERED_DICT.import(py, "collections", "OrderedDict")?;
    assert_eq!(first.name()?, "OrderedDict");
    assert!(first.is(ORDERED_DICT.import(py, "not even", "looked at")?));

    let wrong_type = PyOnceLock::<Py<PyDict>>::new();
    assert!(wrong_type.import(py, "collections", "OrderedDict").is_err());
    assert!(wrong_type.import(py, "collections", "NoSuchThing").is_err());
    assert!(wrong_type.import(py, "no_such_module", "x").is_err());
    assert!(!wrong_type.is_initialized());
    Ok(())
}

/// The import lock of a module is held by a thread whose module body asks for the cell, while another thread fills the
/// cell by importing that module. A cell that is held while importing hangs here.
fn importing_holds_nothing(py: Python<'_>) -> PyResult<()> {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static BODY_RUNS: AtomicBool = AtomicBool::new(false);
    let touch = Callback::new(|py| {
        BODY_RUNS.store(true, SeqCst);
        wait_until_an_import_blocks(py)?;
        CELL.import(py, "inverted", "answer").map(drop)
    });
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("inverted.py"),
        "import sys\nanswer = 42\nsys.touch()\n",
    )?;
    let sys = py.import("sys")?;
    sys.getattr("path")?
        .call_method1("insert", (0, folder.path().to_str()))?;
    sys.setattr("touch", touch)?;
    on_threads(py, 9, |py, number| {
        if number == 0 {
            return py.import("inverted").map(drop);
        }
        py.detach(|| wait_until_detached("the module's body runs", || BODY_RUNS.load(SeqCst)));
        let answer: i32 = CELL.import(py, "inverted", "answer")?.extract()?;
        assert_eq!(answer, 42);
        Ok(())
    })
    .into_iter()
    .collect()
}

/// The value of the initialiser is dropped, and everybody gets the one that was imported.
fn an_import_completes_a_running_cell(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::<Py<PyAny>>::new();
    let (inside, imported) = (AtomicBool::new(false), AtomicBool::new(false));
    static DIED: AtomicBool = AtomicBool::new(false);
    let maxsize = py.import("sys")?.getattr("maxsize")?.unbind();
    let all = on_threads(py, 4, |py, number| match number {
        0 => cell
            .get_or_init(py, || {
                inside.store(true, SeqCst);
                py.detach(|| wait_until_detached("imported", || imported.load(SeqCst)));
                Callback::new(|_| {
                    DIED.store(true, SeqCst);
                    Ok(())
                })
                .on_death(py)
                .expect("it is made")
            })
            .clone_ref(py),
        1 => {
            py.detach(|| wait_until_detached("running", || inside.load(SeqCst)));
            let object = cell.import(py, "sys", "maxsize").cloned();
            imported.store(true, SeqCst);
            object.expect("sys has a maxsize").unbind()
        }
        _ => {
            py.detach(|| wait_until_detached("running", || inside.load(SeqCst)));
            cell.wait(py).clone_ref(py)
        }
    });
    assert!(all.iter().all(|object| object.is(&maxsize)));
    assert!(
        DIED.load(SeqCst),
        "the value of the initialiser is still there"
    );

    // The same from within the initialiser itself.
    let cell = PyOnceLock::<Py<PyAny>>::new();
    let value = cell.get_or_init(py, || {
        assert!(cell.import(py, "sys", "maxsize").is_ok());
        py.None()
    });
    assert!(value.is(&maxsize));
    // A failure afterwards is a failure, and leaves the value alone.
    let cell = PyOnceLock::<Py<PyAny>>::new();
    let failed = cell.get_or_try_init(py, || {
        assert!(cell.import(py, "sys", "maxsize").is_ok());
        Err(())
    });
    assert!(failed.is_err());
    assert!(cell.get(py).is_some_and(|value| value.is(&maxsize)));
    Ok(())
}

/// Imports and initialisers in a race: one value for all, and nobody sees it half-written.
fn imports_and_initialisers_race(py: Python<'_>) -> PyResult<()> {
    for _ in rounds(200) {
        let cell = PyOnceLock::<Py<PyAny>>::new();
        let barrier = Barrier::new(8);
        let all = on_threads(py, 8, |py, number| {
            barrier.meet(py);
            if number % 2 == 0 {
                cell.get_or_init(py, || PyList::empty(py).into_any().unbind())
                    .clone_ref(py)
            } else {
                cell.import(py, "sys", "maxsize")
                    .expect("sys has a maxsize")
                    .clone()
                    .unbind()
            }
        });
        assert!(all.iter().all(|object| object.is(&all[0])));
    }
    Ok(())
}

/// A value that lost the race to one that was imported is given back, not thrown away with a claim of success.
fn what_was_set_is_there_or_given_back(py: Python<'_>) -> PyResult<()> {
    for _ in rounds(2000) {
        let cell = PyOnceLock::<Py<PyAny>>::new();
        let ready = AtomicUsize::new(0);
        let meet = || {
            ready.fetch_add(1, SeqCst);
            yield_until_detached("both are ready", || ready.load(SeqCst) == 2);
        };
        on_two_threads(
            py,
            |py| {
                let object = PyList::empty(py).into_any().unbind();
                py.detach(meet);
                let own = object.clone_ref(py);
                match cell.set(py, object) {
                    Ok(()) => assert!(cell.get(py).is_some_and(|value| value.is(&own))),
                    Err(object) => assert!(object.is(&own)),
                }
            },
            |py| {
                py.detach(meet);
                assert!(cell.import(py, "sys", "maxsize").is_ok());
            },
        );
    }
    Ok(())
}

/// pyo3#5211: a type object whose making asks for that of its base, both asked for at once. And four deep, as in the wild.
fn cells_that_need_other_cells(py: Python<'_>) -> PyResult<()> {
    let cells: [PyOnceLock<Py<PyType>>; 4] = Default::default();
    let barrier = Barrier::new(16);
    fn class<'a>(
        py: Python<'a>,
        cells: &'a [PyOnceLock<Py<PyType>>],
        level: usize,
    ) -> PyResult<&'a Py<PyType>> {
        cells[level].get_or_try_init(py, || {
            let base = match level.checked_sub(1) {
                Some(below) => class(py, cells, below)?.bind(py).clone(),
                None => py.get_type::<PyAny>(),
            };
            let made = py.get_type::<PyType>().call1((
                format!("Level{level}"),
                (base,),
                PyDict::new(py),
            ))?;
            Ok(made.cast_into()?.unbind())
        })
    }
    on_threads(py, 16, |py, number| {
        barrier.meet(py);
        class(py, &cells, number % 4).map(drop)
    })
    .into_iter()
    .collect::<PyResult<()>>()?;
    let top = class(py, &cells, 3)?.bind(py);
    assert!(top.is_subclass(class(py, &cells, 0)?.bind(py))?);
    Ok(())
}

/// `wait` outlives the failure of the initialiser it found running.
fn waits_for_whoever_fills_it(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::new();
    let waiting = AtomicUsize::new(0);
    let values = on_threads(py, 4, |py, number| {
        if number != 0 {
            waiting.fetch_add(1, SeqCst);
            return *cell.wait(py);
        }
        py.detach(|| wait_until_detached("they wait", || waiting.load(SeqCst) == 3));
        for _ in 0..20 {
            assert_eq!(cell.get_or_try_init(py, || Err(())), Err(()));
            py.detach(thread::yield_now);
        }
        *cell.get_or_init(py, || 5)
    });
    assert_eq!(values, [5; 4]);
    Ok(())
}

/// The values that are in use, in statics and in fields.
fn holds_what_extensions_keep_in_cells(py: Python<'_>) -> PyResult<()> {
    static FLAG: PyOnceLock<bool> = PyOnceLock::new();
    static UNIT: PyOnceLock<()> = PyOnceLock::new();
    static PAIR: PyOnceLock<[Py<PyAny>; 2]> = PyOnceLock::new();
    static RESULT: PyOnceLock<PyResult<Py<PyAny>>> = PyOnceLock::new();
    struct Raw(*const u8);
    // SAFETY: the pointer is never used, let alone through.
    unsafe impl Send for Raw {}
    // SAFETY: as above.
    unsafe impl Sync for Raw {}
    static POINTER: PyOnceLock<Raw> = PyOnceLock::new();

    assert!(FLAG.get_or_init(py, || true));
    UNIT.get_or_init(py, || ());
    assert!(UNIT.is_initialized());
    assert!(PAIR.get_or_init(py, || [py.None(), py.None()])[1].is_none(py));
    assert!(
        RESULT
            .get_or_init(py, || Err(PyValueError::new_err("kept")))
            .is_err()
    );
    assert!(
        POINTER
            .get_or_init(py, || Raw(std::ptr::null()))
            .0
            .is_null()
    );
    let not_send = PyOnceLock::<Cell<i32>>::new();
    not_send.get_or_init(py, || Cell::new(1)).set(2);
    assert_eq!(not_send.into_inner(), Some(Cell::new(2)));
    Ok(())
}

/// A thread that cannot attach any more is filling the cell, and a finaliser asks for it.
fn at_exit_a_cell_that_nobody_will_fill_is_reported(py: Python<'_>) -> PyResult<()> {
    let finished = finish(
        py,
        child(py, "once_lock::exits_while_a_cell_is_being_filled")?,
        CHILD_LIMIT,
    )?;
    finished.expect_success();
    assert!(
        finished
            .output
            .contains("which no other thread can initialize any more"),
        "{}",
        finished.output
    );
    Ok(())
}

fn exits_while_a_cell_is_being_filled(py: Python<'_>) -> PyResult<()> {
    static CELL: PyOnceLock<i32> = PyOnceLock::new();
    static INSIDE: AtomicBool = AtomicBool::new(false);
    let fill = Callback::new(|py| {
        CELL.get_or_init(py, || {
            INSIDE.store(true, SeqCst);
            py.detach(|| {
                loop {
                    thread::park();
                }
            })
        });
        Ok(())
    });
    let ask = Callback::new(|py| CELL.get_or_try_init_py(py, || Ok(1)).map(drop));
    let names = PyDict::new(py);
    names.set_item("fill", fill)?;
    PythonThread::start("fill()", &names)?;
    py.detach(|| wait_until_detached("the initialiser runs", || INSIDE.load(SeqCst)));
    ask.at_finalisation(py)
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(behaves_as_the_cell_it_replaces),
        test!(goes_beyond_the_cell_it_replaces),
        test!(drops_what_it_owns_once),
        test!(one_thread_initialises_while_it_detaches),
        test!(an_error_is_followed_by_another_try),
        test!(a_panic_is_followed_by_another_try),
        test!(a_failure_wakes_one_that_takes_over),
        test!(no_sleeper_is_forgotten),
        test!(set_waits_for_an_initialiser_that_needs_the_interpreter),
        test!(a_collection_finishes_during_an_initialisation),
        test!(an_uncontended_initialisation_does_not_detach),
        test!(an_initialiser_that_asks_for_its_own_cell_is_told),
        test!(a_finaliser_in_the_middle_of_the_initialiser_is_told),
        test!(imports_once),
        test!(importing_holds_nothing),
        test!(an_import_completes_a_running_cell),
        test!(imports_and_initialisers_race),
        test!(a_failure_wakes_a_waiter_of_its_own_cell),
        test!(what_was_set_is_there_or_given_back).limit(30),
        test!(cells_that_need_other_cells),
        test!(waits_for_whoever_fills_it),
        test!(holds_what_extensions_keep_in_cells),
        test!(at_exit_a_cell_that_nobody_will_fill_is_reported),
    ],
    scenarios: &[scenario!(exits_while_a_cell_is_being_filled)],
};
