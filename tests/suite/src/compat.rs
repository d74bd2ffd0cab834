//! `compat`: the types that PyO3 has removed behave as they did.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};
use pyo3_sync::compat::GILOnceCell;
use pyo3_sync::{PyOnce, PyOnceLock};

use crate::callback::Callback;
use crate::fork::without_fork;
use crate::harness::{
    Barrier, PythonThread, child, finish, on_threads, on_two_threads, rounds, wait_until,
};
use crate::interpreter::{collect, wait_until_an_import_blocks, without_letting_go};
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::{scenario, test};

const THREADS: usize = 64;

fn behaves_as_the_cell_it_replaces(py: Python<'_>) -> PyResult<()> {
    let mut cell = GILOnceCell::new();
    assert_eq!(cell.get(py), None);
    assert_eq!(cell.get_or_try_init(py, || Err(5)), Err(5));
    assert_eq!(cell.get(py), None);
    assert_eq!(cell.get_or_try_init(py, || Ok::<_, i32>(2)), Ok(&2));
    assert_eq!(cell.get_or_try_init(py, || Err(5)), Ok(&2));
    assert_eq!(cell.get_or_init(py, || 3), &2);
    assert_eq!(cell.set(py, 4), Err(4));
    *cell.get_mut().expect("it is filled") = 6;
    assert_eq!(format!("{cell:?}"), "GILOnceCell(6)");
    assert_eq!(cell.take(), Some(6));
    assert_eq!(cell.take(), None);
    assert_eq!(cell.get_mut(), None);
    assert_eq!(cell.get(py), None);
    assert_eq!(cell.set(py, 7), Ok(()));
    assert_eq!(cell.into_inner(), Some(7));
    assert_eq!(GILOnceCell::<i32>::default().into_inner(), None);

    let object = GILOnceCell::new();
    assert!(object.clone_ref(py).get(py).is_none());
    object.get_or_init(py, || py.None());
    let clone = object.clone_ref(py);
    assert!(clone.get(py).is_some_and(|it| it.is_none(py)));
    Ok(())
}

fn imports(py: Python<'_>) -> PyResult<()> {
    let cell: GILOnceCell<Py<PyType>> = GILOnceCell::new();
    assert!(cell.import(py, "no_such_module", "Anything").is_err());
    assert!(cell.import(py, "decimal", "NoSuchName").is_err());
    assert!(cell.import(py, "decimal", "getcontext").is_err());
    assert!(cell.get(py).is_none());
    let first = cell.import(py, "decimal", "Decimal")?;
    let again = cell.get_or_try_init_type_ref(py, "no_such_module", "Anything")?;
    assert!(first.is(again));
    assert_eq!(first.name()?, "Decimal");
    Ok(())
}

/// An initialiser may ask for the cell that it is filling. The innermost value is the first one to arrive, and stays.
fn an_initialiser_enters_itself(py: Python<'_>) -> PyResult<()> {
    let cell = GILOnceCell::new();
    let runs = Cell::new(0);
    fn fill<'a>(py: Python<'_>, cell: &'a GILOnceCell<usize>, runs: &Cell<usize>) -> &'a usize {
        cell.get_or_init(py, || {
            runs.set(runs.get() + 1);
            let run = runs.get();
            if run < 5 {
                assert_eq!(fill(py, cell, runs), &5);
            }
            run
        })
    }
    assert_eq!(fill(py, &cell, &runs), &5);
    assert_eq!(runs.get(), 5);
    assert_eq!(cell.get(py), Some(&5));
    Ok(())
}

/// All threads are in their initialisers at once: none waits for another. One value stays, and all others are dropped.
fn initialisers_of_several_threads_run_at_once(py: Python<'_>) -> PyResult<()> {
    let (runs, drops) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cell = GILOnceCell::new();
    let all = Barrier::new(THREADS);
    let mut seen = on_threads(py, THREADS, |py, number| {
        let value = cell.get_or_init(py, || {
            runs.fetch_add(1, SeqCst);
            all.meet(py);
            (number, OnDrop(|| drops.fetch_add(1, SeqCst)))
        });
        value.0
    });
    seen.dedup();
    assert_eq!(seen.len(), 1, "all threads got the same value");
    assert_eq!(runs.load(SeqCst), THREADS);
    assert_eq!(drops.load(SeqCst), THREADS - 1);
    drop(cell);
    assert_eq!(drops.load(SeqCst), THREADS);
    Ok(())
}

/// `set` and `get_or_init` of other threads do not wait for one that is in the middle of its initialiser.
fn nobody_waits_for_an_initialiser(py: Python<'_>) -> PyResult<()> {
    let cell = GILOnceCell::new();
    let (running, filled) = (AtomicBool::new(false), AtomicBool::new(false));
    let (slow, quick) = on_two_threads(
        py,
        |py| {
            *cell.get_or_init(py, || {
                running.store(true, SeqCst);
                wait_until(py, "the other thread has filled the cell", || {
                    filled.load(SeqCst)
                });
                1
            })
        },
        |py| {
            wait_until(py, "the initialiser runs", || running.load(SeqCst));
            assert_eq!(cell.get(py), None);
            assert_eq!(cell.set(py, 2), Ok(()));
            filled.store(true, SeqCst);
            *cell.get_or_init(py, || 3)
        },
    );
    assert_eq!((slow, quick), (2, 2));
    Ok(())
}

/// An initialiser that fails passes its error on, even though the cell has been filled meanwhile, and an initialiser that panics
/// leaves nothing behind.
fn failures_leave_the_cell_alone(py: Python<'_>) -> PyResult<()> {
    let cell = GILOnceCell::new();
    assert_eq!(
        panic_of(|| cell.get_or_init(py, || panic!("no value"))),
        "no value"
    );
    assert_eq!(cell.get(py), None);
    let result = cell.get_or_try_init(py, || {
        cell.set(py, 1).expect("it is empty");
        Err("too late")
    });
    assert_eq!(result, Err("too late"));
    assert_eq!(cell.get(py), Some(&1));
    Ok(())
}

fn does_not_let_go_of_the_interpreter(py: Python<'_>) -> PyResult<()> {
    without_letting_go(py, |py| {
        let cell = GILOnceCell::new();
        cell.get_or_init(py, || 1);
        let _ = cell.set(py, 2);
        cell.get_or_init(py, || 3);
    })
}

/// The value that was not first is dropped when the cell is filled, so that its `__del__` may use the cell.
fn a_finaliser_of_the_value_that_lost_uses_the_cell(py: Python<'_>) -> PyResult<()> {
    let cell = Arc::new(GILOnceCell::<Py<PyAny>>::new());
    let asked = Arc::new(AtomicUsize::new(0));
    let last_words = {
        let (cell, asked) = (cell.clone(), asked.clone());
        Callback::new(move |py| {
            assert!(cell.get_or_init(py, || py.Ellipsis()).is_none(py));
            asked.fetch_add(1, SeqCst);
            Ok(())
        })
    };
    let loser = last_words.on_death(py)?;
    let kept = cell.get_or_init(py, || {
        cell.set(py, py.None()).expect("it is empty");
        loser
    });
    assert!(kept.is_none(py));
    assert_eq!(asked.load(SeqCst), 1);
    Ok(())
}

/// The import lock and the cell in opposite order, which is how a cell that waits comes to hang.
fn the_top_level_of_a_module_asks_for_the_cell(py: Python<'_>) -> PyResult<()> {
    let cell = Arc::new(GILOnceCell::<Py<PyAny>>::new());
    let folder = tempfile::tempdir()?;
    let top_level = "import suite_compat_ask; suite_compat_ask.ask()\nvalue = 1\n";
    std::fs::write(folder.path().join("suite_compat_plugin.py"), top_level)?;
    let sys = py.import("sys")?;
    let path = sys.getattr("path")?;
    let folder_name = folder.path().to_str().expect("it is text");
    path.call_method1("append", (folder_name,))?;

    // Whoever imports the module holds its lock, and asks for the cell, when the other thread has begun to fill it.
    let filling = Arc::new(AtomicBool::new(false));
    let ask = {
        let (cell, filling) = (cell.clone(), filling.clone());
        Callback::new(move |py| {
            wait_until(py, "the other thread fills the cell", || {
                filling.load(SeqCst)
            });
            wait_until_an_import_blocks(py)?;
            cell.get_or_init(py, || py.None());
            Ok(())
        })
    };
    let helper = PyModule::new(py, "suite_compat_ask")?;
    helper.setattr("ask", ask)?;
    sys.getattr("modules")?
        .set_item("suite_compat_ask", &helper)?;

    let globals = PyDict::new(py);
    let importer = PythonThread::start("import suite_compat_plugin", &globals)?;
    let modules = sys.getattr("modules")?;
    wait_until(py, "the module is being imported", || {
        modules.contains("suite_compat_plugin").unwrap_or(false)
    });
    let value = cell.get_or_try_init(py, || {
        filling.store(true, SeqCst);
        Ok::<_, PyErr>(py.import("suite_compat_plugin")?.getattr("value")?.unbind())
    })?;
    assert!(value.is_none(py), "the importing thread was first");
    importer.join(py)
}

/// A collection stops the world: it must find no thread that waits for the cell while attached.
fn collects_while_the_cell_is_raced_for(py: Python<'_>) -> PyResult<()> {
    for _ in rounds(200) {
        let cell = GILOnceCell::new();
        let values = on_threads(py, 4, |py, number| {
            if number == 0 {
                collect(py);
            }
            cell.get_or_init(py, || PyList::empty(py).unbind()).as_ptr() as usize
        });
        assert!(values.iter().all(|value| *value == values[0]));
    }
    Ok(())
}

fn the_child_of_a_fork_fills_the_cell(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "compat::forks_while_a_cell_is_filled")?;
    finish(py, command, Duration::from_secs(6))?.expect_success();
    Ok(())
}

fn forks_while_a_cell_is_filled(py: Python<'_>) -> PyResult<()> {
    static CELL: GILOnceCell<i32> = GILOnceCell::new();
    static RUNNING: AtomicBool = AtomicBool::new(false);
    static OVER: AtomicBool = AtomicBool::new(false);
    let thread = std::thread::spawn(|| {
        Python::attach(|py| {
            CELL.get_or_init(py, || {
                RUNNING.store(true, SeqCst);
                wait_until(py, "the fork is over", || OVER.load(SeqCst));
                1
            });
        });
    });
    wait_until(py, "the initialiser runs", || RUNNING.load(SeqCst));
    let os = py.import("os")?;
    let child: i32 = os.call_method0("fork")?.extract()?;
    if child == 0 {
        let filled = *CELL.get_or_init(py, || 2);
        os.call_method1("_exit", (if filled == 2 { 0 } else { 1 },))?;
    }
    OVER.store(true, SeqCst);
    let (_, status): (i32, i32) = os.call_method1("waitpid", (child, 0))?.extract()?;
    assert_eq!(status, 0);
    py.detach(|| thread.join()).expect("the thread ends");
    assert_eq!(CELL.get(py), Some(&1));
    Ok(())
}

#[cfg(not(Py_GIL_DISABLED))]
#[allow(deprecated)]
fn what_the_gil_protects(py: Python<'_>) -> PyResult<()> {
    use pyo3_sync::compat::GILProtected;
    use std::cell::RefCell;

    static NAMES: GILProtected<RefCell<Vec<usize>>> = GILProtected::new(RefCell::new(Vec::new()));
    on_threads(py, THREADS, |py, number| {
        for _ in 0..100 {
            NAMES.get(py).borrow_mut().push(number);
        }
    });
    assert_eq!(NAMES.get(py).borrow().len(), THREADS * 100);
    Ok(())
}

#[cfg(Py_GIL_DISABLED)]
fn what_the_gil_protects(_py: Python<'_>) -> PyResult<()> {
    Ok(()) // That it does not compile is a case in `tests/compile_fail`.
}

/// The methods of PyO3's extension traits for `std`, on the types of this crate.
fn the_names_of_extension_traits(py: Python<'_>) -> PyResult<()> {
    static CELL: PyOnceLock<i32> = PyOnceLock::new();
    static ONCE: PyOnce = PyOnce::new();
    ONCE.call_once_py_attached(py, || ());
    ONCE.call_once_force_py_attached(py, |_| unreachable!("it has run"));
    assert_eq!(CELL.get_or_init_py_attached(py, || 3), &3);
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(behaves_as_the_cell_it_replaces),
        test!(imports),
        test!(an_initialiser_enters_itself),
        test!(initialisers_of_several_threads_run_at_once),
        test!(nobody_waits_for_an_initialiser),
        test!(failures_leave_the_cell_alone),
        test!(does_not_let_go_of_the_interpreter),
        test!(a_finaliser_of_the_value_that_lost_uses_the_cell),
        test!(the_top_level_of_a_module_asks_for_the_cell),
        test!(collects_while_the_cell_is_raced_for).limit(30),
        test!(the_child_of_a_fork_fills_the_cell).unless(without_fork),
        test!(what_the_gil_protects).only_with_gil("it protects only where there is one"),
        test!(the_names_of_extension_traits),
    ],
    scenarios: &[scenario!(forks_while_a_cell_is_filled)],
};
