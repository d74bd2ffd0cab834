//! `PyOnce`, `PyLazy`, `PyTryLazy` and `PyImport`: what stands on `PyOnceLock`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{
    PyAttributeError, PyImportError, PyKeyboardInterrupt, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::{PyImport, PyLazy, PyOnce, PyOnceLock, PyTryLazy};

use crate::callback::Callback;
use crate::harness::{
    Barrier, Sleeper, child, finish, on_threads, wait_until, wait_until_detached, without_signals,
};
use crate::interpreter::{collect, wait_until_an_import_blocks, without_letting_go};
use crate::panics::panic_of;
use crate::registry::Module;
use crate::{scenario, test};

fn a_closure_runs_once(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let (once, runs) = (PyOnce::new(), AtomicUsize::new(0));
        on_threads(py, 4, |py, _| {
            once.call_once(py, || {
                py.detach(thread::yield_now);
                runs.fetch_add(1, SeqCst);
            });
            assert_eq!(runs.load(SeqCst), 1, "it has run when the call is over");
            assert!(once.is_completed());
        });
    }
    Ok(())
}

/// Invariant I2.
fn what_nobody_contends_for_leaves_the_interpreter_alone(py: Python<'_>) -> PyResult<()> {
    let import = PyImport::<PyAny>::new("sys", "maxsize");
    import.get(py)?;
    without_letting_go(py, |py| {
        for _ in 0..20_000 {
            let once = PyOnce::new();
            once.call_once(py, || ());
            once.call_once_checked(py, || ()).expect("it is done");
            once.call_once_force(py, |_| ());
            let lazy = PyLazy::new(|_: Python<'_>| 1);
            assert_eq!(lazy.get(py) + lazy.get_checked(py).expect("it is made"), 2);
            assert!(PyTryLazy::new(|_: Python<'_>| Ok(1)).get(py).is_ok());
            assert!(import.get(py).is_ok() && import.get_owned(py).is_ok());
        }
    })
}

fn a_panic_poisons(py: Python<'_>) -> PyResult<()> {
    let once = PyOnce::new();
    assert_eq!(panic_of(|| once.call_once(py, || panic!("first"))), "first");
    assert!(panic_of(|| once.call_once(py, || ())).contains("it is poisoned"));
    assert!(!once.is_completed());
    let again = || once.call_once_force(py, |state| assert!(!state.is_poisoned(), "second"));
    assert_eq!(panic_of(again), "second");
    once.call_once_force(py, |state| assert!(state.is_poisoned()));
    once.call_once(py, || unreachable!());
    assert!(format!("{once:?}").contains("completed: true"));
    PyOnce::new().call_once_force_py_attached(py, |state| assert!(!state.is_poisoned()));
    Ok(())
}

/// Threads that wait behind a closure that panics are told too, and their own closures do not run.
fn waiters_behind_a_panic_are_told(py: Python<'_>) -> PyResult<()> {
    let (once, runs, inside) = (
        PyOnce::default(),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let waiters = [(); 3].map(|()| Sleeper::default());
    let messages = on_threads(py, 4, |py, number| {
        if number > 0 {
            wait_until(py, "the closure runs", || inside.load(SeqCst));
            waiters[number - 1].announce();
        }
        panic_of(|| {
            once.call_once(py, || {
                runs.fetch_add(1, SeqCst);
                inside.store(true, SeqCst);
                wait_until(py, "all others wait", || {
                    waiters.iter().all(Sleeper::is_asleep)
                });
                panic!("it fails");
            });
        })
    });
    assert_eq!(messages[0], "it fails");
    for message in &messages[1..] {
        assert!(message.contains("it is poisoned"), "{message}");
    }
    assert_eq!(runs.into_inner(), 1);
    assert!(!once.is_completed());
    Ok(())
}

fn coming_back_is_reported(py: Python<'_>) -> PyResult<()> {
    let once = PyOnce::new();
    once.call_once(py, || {
        let error = once.call_once_checked(py, || ()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is running the closure of the PyOnce"),
            "{error}"
        );
    });
    static ITSELF: PyLazy<usize> =
        PyLazy::new(|py| ITSELF.get_checked(py).map_or_else(|_| 7, |value| *value));
    assert_eq!(ITSELF.get(py), &7);
    static TRY_ITSELF: PyTryLazy<usize> = PyTryLazy::new(|py| TRY_ITSELF.get(py).copied());
    assert!(
        TRY_ITSELF
            .get(py)
            .unwrap_err()
            .to_string()
            .contains("deadlock")
    );
    assert_eq!(TRY_ITSELF.peek(), None);
    Ok(())
}

/// pyo3#5928, #5341, as two values that make themselves.
fn two_that_need_each_other_are_reported(py: Python<'_>) -> PyResult<()> {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    fn both_are_busy(py: Python<'_>) {
        BUSY.fetch_add(1, SeqCst);
        py.detach(|| wait_until_detached("both are busy", || BUSY.load(SeqCst) >= 2));
    }
    static A: PyTryLazy<usize> = PyTryLazy::new(|py| {
        both_are_busy(py);
        Ok(B.get(py)? + 1)
    });
    static B: PyTryLazy<usize> = PyTryLazy::new(|py| {
        both_are_busy(py);
        Ok(A.get(py)? + 1)
    });
    let results = on_threads(py, 2, |py, number| match number {
        0 => A.get(py).map(drop),
        _ => B.get(py).map(drop),
    });
    assert!(results.iter().all(Result::is_err));
    Ok(())
}

fn a_value_is_made_once(py: Python<'_>) -> PyResult<()> {
    let runs = AtomicUsize::new(0);
    let mut lazy = PyLazy::new(|py: Python<'_>| {
        py.detach(thread::yield_now);
        runs.fetch_add(1, SeqCst);
        PyDict::new(py).unbind()
    });
    assert_eq!(format!("{lazy:?}"), "PyLazy(<empty>)");
    on_threads(py, 4, |py, _| assert!(lazy.get(py).bind(py).is_empty()));
    assert_eq!(runs.load(SeqCst), 1);
    assert!(lazy.peek().is_some() && lazy.get_mut().is_some() && lazy.into_inner().is_some());

    let fails = AtomicBool::new(true);
    let lazy = PyLazy::new(|_: Python<'_>| assert!(!fails.load(SeqCst), "it fails"));
    assert_eq!(panic_of(|| *lazy.get(py)), "it fails");
    fails.store(false, SeqCst);
    lazy.get(py);
    Ok(())
}

fn errors_are_not_kept(py: Python<'_>) -> PyResult<()> {
    let runs = AtomicUsize::new(0);
    let lazy = PyTryLazy::new(|_: Python<'_>| match runs.fetch_add(1, SeqCst) {
        0 | 1 => Err(PyValueError::new_err("not yet")),
        runs => Ok(runs),
    });
    for _ in 0..2 {
        assert!(lazy.get(py).unwrap_err().is_instance_of::<PyValueError>(py));
    }
    on_threads(py, 4, |py, _| {
        assert_eq!(lazy.get(py).expect("it is made"), &2)
    });
    Ok(())
}

/// The message of a value that is being made, or of a cell that is being filled, does not wait for it.
fn what_is_being_made_can_be_shown(py: Python<'_>) -> PyResult<()> {
    let (cell, once) = (PyOnceLock::new(), PyOnce::new());
    let lazy = PyLazy::new(|_: Python<'_>| 1);
    let try_lazy = PyTryLazy::new(|_: Python<'_>| Ok(2));
    let shown = || format!("{cell:?} {lazy:?} {try_lazy:?} {once:?}");
    let empty =
        "PyOnceLock(<empty>) PyLazy(<empty>) PyTryLazy(<empty>) PyOnce { completed: false, .. }";
    assert_eq!(shown(), empty);
    once.call_once(py, || {
        cell.get_or_init(py, || {
            assert_eq!(shown(), empty);
            on_threads(py, 1, |py, _| {
                assert_eq!(shown(), empty);
                py.detach(|| assert_eq!(shown(), empty));
            });
            0
        });
    });
    assert_eq!((lazy.get(py), try_lazy.get(py)?), (&1, &2));
    let full = "PyOnceLock(0) PyLazy(1) PyTryLazy(2) PyOnce { completed: true, .. }";
    py.detach(|| assert_eq!(shown(), full));
    Ok(())
}

#[pyclass(frozen)]
struct Witness {
    lazy: PyLazy<i32>,
    try_lazy: PyTryLazy<i32>,
    seen: Mutex<(Option<i32>, Option<i32>)>,
}

#[pymethods]
impl Witness {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let seen = (self.lazy.traverse(&visit), self.try_lazy.traverse(&visit));
        *self.seen.lock().expect("no panic") = (seen.0.copied(), seen.1.copied());
        Ok(())
    }
}

/// The collector sees a value when it is made, not while it is being made, and makes none.
fn the_collector_sees_what_is_made(py: Python<'_>) -> PyResult<()> {
    static WITNESS: PyOnceLock<Py<Witness>> = PyOnceLock::new();
    fn sees(py: Python<'_>) -> (Option<i32>, Option<i32>) {
        collect(py);
        let witness = WITNESS.get(py).expect("it is there").get();
        *witness.seen.lock().expect("no panic")
    }
    let witness = Witness {
        lazy: PyLazy::new(|py| {
            assert_eq!(sees(py), (None, None));
            on_threads(py, 1, |py, _| assert_eq!(sees(py), (None, None)));
            1
        }),
        try_lazy: PyTryLazy::new(|py| {
            assert_eq!(sees(py), (Some(1), None));
            Ok(2)
        }),
        seen: Mutex::new((Some(0), Some(0))),
    };
    let witness = Py::new(py, witness)?;
    let witness = WITNESS.get_or_init(py, || witness).get();
    assert_eq!(sees(py), (None, None));
    witness.lazy.get(py);
    assert_eq!(sees(py), (Some(1), None));
    witness.try_lazy.get(py)?;
    assert_eq!(sees(py), (Some(1), Some(2)));
    Ok(())
}

/// Ctrl-C ends the wait for a thread that is making the value, which goes on.
fn ctrl_c_ends_the_wait_for_a_lazy_value(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "once::is_interrupted_in_a_lazy_value")?;
    finish(py, command, Duration::from_secs(8))?.expect_success();
    Ok(())
}

fn is_interrupted_in_a_lazy_value(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let handler = signal.getattr("default_int_handler")?;
    signal.call_method1("signal", (signal.getattr("SIGINT")?, handler))?;
    let [inside, interrupted] = [(); 2].map(|()| AtomicBool::new(false));
    let (runs, waiter) = (AtomicUsize::new(0), Sleeper::default());
    let lazy = PyTryLazy::new(|py: Python<'_>| {
        inside.store(true, SeqCst);
        py.detach(|| wait_until_detached("Ctrl-C was seen", || interrupted.load(SeqCst)));
        Ok(runs.fetch_add(1, SeqCst))
    });
    thread::scope(|scope| {
        scope.spawn(|| Python::attach(|py| lazy.get(py).map(drop).expect("it is made")));
        scope.spawn(|| {
            wait_until_detached("it waits", || waiter.is_asleep());
            let this = std::process::id().to_string();
            let kill = std::process::Command::new("kill")
                .args(["-INT", &this])
                .status();
            assert!(kill.expect("there is a `kill`").success());
        });
        wait_until(py, "it is being made", || inside.load(SeqCst));
        waiter.announce();
        let error = lazy.get(py).expect_err("the wait was ended");
        assert!(error.is_instance_of::<PyKeyboardInterrupt>(py), "{error}");
        assert_eq!(lazy.peek(), None);
        interrupted.store(true, SeqCst);
        assert_eq!(lazy.get(py).expect("it is made"), &0);
    });
    assert_eq!(runs.into_inner(), 1);
    Ok(())
}

fn imports(py: Python<'_>) -> PyResult<()> {
    static MODULE: PyImport<PyModule> = PyImport::module("json");
    static CLASS: PyImport<PyType> = PyImport::new("collections", "OrderedDict");
    static PATH: PyImport = PyImport::new("collections", "OrderedDict.fromkeys");
    static WRONG: PyImport<PyType> = PyImport::new("json", "loads");
    static NO_MODULE: PyImport = PyImport::module("no_such_module_here");
    static NO_ATTRIBUTE: PyImport = PyImport::new("json", "JSONDecoder.no_such_attribute");
    assert_eq!(MODULE.get(py)?.name()?.to_string(), "json");
    assert!(
        CLASS
            .get_owned(py)?
            .is(py.import("collections")?.getattr("OrderedDict")?)
    );
    assert!(PATH.get(py)?.call1(("ab",))?.contains("a")?);
    let error = WRONG.get(py).unwrap_err();
    assert!(error.is_instance_of::<PyTypeError>(py));
    let text = error.to_string();
    assert!(
        text.contains("json.loads") && text.contains("function") && text.contains("PyType"),
        "{text}"
    );
    assert!(
        NO_MODULE
            .get(py)
            .unwrap_err()
            .is_instance_of::<PyImportError>(py)
    );
    let error = NO_ATTRIBUTE.get(py).unwrap_err();
    assert!(
        error.is_instance_of::<PyAttributeError>(py)
            && error.to_string().contains("no_such_attribute")
    );
    assert!(
        format!("{CLASS:?}").contains("imported: true")
            && format!("{WRONG:?}").contains("imported: false")
    );
    Ok(())
}

/// Eight threads import at once from a module whose top level uses the same import. It does so when all have asked, and one
/// of them at least is asleep in the interpreter's lock.
fn a_module_that_imports_itself_by_the_same_name(py: Python<'_>) -> PyResult<()> {
    static VALUE: PyImport = PyImport::new("module_that_calls_back", "value");
    static ASKING: AtomicUsize = AtomicUsize::new(0);
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let folder = tempfile::tempdir()?;
    let code = "
value = object()
import builtins
builtins.call_back()
";
    std::fs::write(folder.path().join("module_that_calls_back.py"), code)?;
    let path = folder.path().to_str().expect("it is text");
    py.import("sys")?
        .getattr("path")?
        .call_method1("insert", (0, path))?;
    let call_back = Callback::new(|py| {
        RUNS.fetch_add(1, SeqCst);
        wait_until(py, "all ask", || ASKING.load(SeqCst) == 8);
        wait_until_an_import_blocks(py)?;
        let value = VALUE.get(py)?;
        assert!(value.is(VALUE.get(py)?));
        Ok(())
    });
    py.import("builtins")?
        .setattr("call_back", Py::new(py, call_back)?)?;
    let start = Barrier::new(8);
    let results = on_threads(py, 8, |py, _| {
        start.meet(py);
        ASKING.fetch_add(1, SeqCst);
        VALUE.get_owned(py).map(Bound::unbind)
    });
    assert_eq!(RUNS.load(SeqCst), 1);
    let first = VALUE.get(py)?;
    for value in results {
        assert!(value?.bind(py).is(first));
    }
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_closure_runs_once),
        test!(what_nobody_contends_for_leaves_the_interpreter_alone),
        test!(a_panic_poisons),
        test!(waiters_behind_a_panic_are_told),
        test!(coming_back_is_reported),
        test!(two_that_need_each_other_are_reported),
        test!(a_value_is_made_once),
        test!(errors_are_not_kept),
        test!(what_is_being_made_can_be_shown),
        test!(the_collector_sees_what_is_made),
        test!(ctrl_c_ends_the_wait_for_a_lazy_value).unless(without_signals),
        test!(imports),
        test!(a_module_that_imports_itself_by_the_same_name),
    ],
    scenarios: &[scenario!(is_interrupted_in_a_lazy_value)],
};
