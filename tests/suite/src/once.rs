//! `PyOnce`, `PyLazy`, `PyTryLazy` and `PyImport`: what stands on `PyOnceLock`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use pyo3::exceptions::{PyAttributeError, PyImportError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use pyo3_sync::{PyImport, PyLazy, PyOnce, PyTryLazy};

use crate::callback::Callback;
use crate::harness::{on_threads, wait_until_detached};
use crate::interpreter::without_letting_go;
use crate::panics::panic_of;
use crate::registry::Module;
use crate::test;

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

/// Threads that wait behind a closure that panics are told too.
fn waiters_behind_a_panic_are_told(py: Python<'_>) -> PyResult<()> {
    let (once, told) = (PyOnce::new(), AtomicUsize::new(0));
    on_threads(py, 4, |py, _| {
        panic_of(|| {
            once.call_once(py, || {
                py.detach(thread::yield_now);
                panic!("it fails");
            });
        });
        told.fetch_add(1, SeqCst);
    });
    assert_eq!(told.into_inner(), 4);
    Ok(())
}

fn coming_back_is_reported(py: Python<'_>) -> PyResult<()> {
    let once = PyOnce::new();
    once.call_once(py, || {
        let error = once.call_once_checked(py, || ()).unwrap_err();
        assert!(
            error.to_string().contains("whose closure it is running"),
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

/// Eight threads import at once from a module whose top level uses the same import.
fn a_module_that_imports_itself_by_the_same_name(py: Python<'_>) -> PyResult<()> {
    static VALUE: PyImport = PyImport::new("module_that_calls_back", "value");
    let folder = tempfile::tempdir()?;
    let code = "
import time
value = object()
time.sleep(0.01)
import builtins
builtins.call_back()
";
    std::fs::write(folder.path().join("module_that_calls_back.py"), code)?;
    let path = folder.path().to_str().expect("it is text");
    py.import("sys")?
        .getattr("path")?
        .call_method1("insert", (0, path))?;
    let call_back = Callback::new(|py| {
        let value = VALUE.get(py)?;
        assert!(value.is(VALUE.get(py)?));
        Ok(())
    });
    py.import("builtins")?
        .setattr("call_back", Py::new(py, call_back)?)?;
    let results = on_threads(py, 8, |py, _| VALUE.get_owned(py).map(Bound::unbind));
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
        test!(imports),
        test!(a_module_that_imports_itself_by_the_same_name),
    ],
    scenarios: &[],
};
