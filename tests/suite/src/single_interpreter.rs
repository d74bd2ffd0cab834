//! `ensure_single_interpreter`: the statics of an extension serve one interpreter.

use std::time::Duration;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

use crate::child::EMBEDDED;
use crate::harness::{child, finish};
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(8);

fn the_first_interpreter_is_served(py: Python<'_>) -> PyResult<()> {
    let module = PyModule::new(py, "mine")?;
    pyo3_sync::ensure_single_interpreter(&module)?;
    pyo3_sync::ensure_single_interpreter(&module)
}

/// A legacy sub-interpreter shares the GIL and would share the statics.
fn a_second_interpreter_is_refused(py: Python<'_>) -> PyResult<()> {
    let module = PyModule::new(py, "mine")?;
    pyo3_sync::ensure_single_interpreter(&module)?;
    let second = SubInterpreter::new();
    let error = second.run(refusal);
    assert!(
        error.contains("mine cannot be loaded in a second interpreter"),
        "{error}"
    );
    drop(second);
    pyo3_sync::ensure_single_interpreter(&module)
}

/// The message of the `ImportError` that the calling interpreter gets.
fn refusal(py: Python<'_>) -> String {
    let module = PyModule::new(py, "mine").expect("it is made");
    let error = pyo3_sync::ensure_single_interpreter(&module).unwrap_err();
    assert!(error.is_instance_of::<PyImportError>(py));
    error.value(py).to_string()
}

fn assert_names_the_end(error: &str) {
    let start = "mine cannot be loaded in this process any more: ";
    assert!(error.starts_with(start), "{error}");
    assert!(
        error.contains("the interpreter that loaded it first has ended"),
        "{error}"
    );
}

/// Its statics hold objects of the interpreter that has ended, so no interpreter can be accepted.
fn the_end_of_a_first_subinterpreter_is_named(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "single_interpreter::subinterpreter_comes_first")?;
    finish(py, command, CHILD_LIMIT)?.expect_success();
    Ok(())
}

fn subinterpreter_comes_first(py: Python<'_>) -> PyResult<()> {
    let first = SubInterpreter::new();
    first.run(|py| {
        let module = PyModule::new(py, "mine").expect("it is made");
        for _ in 0..2 {
            pyo3_sync::ensure_single_interpreter(&module).expect("it is the first");
        }
    });
    let error = refusal(py);
    assert!(error.contains("in a second interpreter"), "{error}");
    drop(first);
    assert_names_the_end(&refusal(py));
    let third = SubInterpreter::new();
    assert_names_the_end(&third.run(refusal));
    Ok(())
}

/// An extension is loaded by the program that it runs in, and cannot end its interpreter.
fn unless_embedded(_: Python<'_>) -> Option<String> {
    let is_embedded = std::env::var_os(EMBEDDED).is_some();
    (!is_embedded).then(|| "an extension cannot end its interpreter and start another".to_owned())
}

/// Up to Python 3.13 its id is that of the interpreter before it.
fn the_interpreter_after_finalization_is_refused(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "single_interpreter::reinitializes")?;
    let finished = finish(py, command, CHILD_LIMIT)?;
    finished.expect_success();
    assert!(
        finished.output.ends_with("refused twice\n"),
        "{}",
        finished.output
    );
    Ok(())
}

fn reinitializes(py: Python<'_>) -> PyResult<()> {
    pyo3_sync::ensure_single_interpreter(&PyModule::new(py, "mine")?)?;
    for _ in 0..2 {
        // SAFETY:
        // - Called on the main thread, attached.
        // - Nothing uses an object of the interpreter that ends: this scenario does not return.
        let py = unsafe {
            assert_eq!(pyo3::ffi::Py_FinalizeEx(), 0);
            pyo3::ffi::Py_InitializeEx(0);
            Python::assume_attached()
        };
        assert_names_the_end(&refusal(py));
    }
    println!("refused twice");
    std::process::exit(0);
}

/// An interpreter beside the main one, made by the main thread while it is attached.
struct SubInterpreter {
    main: *mut pyo3::ffi::PyThreadState,
    state: *mut pyo3::ffi::PyThreadState,
}

impl SubInterpreter {
    fn new() -> Self {
        // SAFETY: called on the main thread while it is attached; afterwards it is attached to the interpreter it was
        // attached to before.
        unsafe {
            let main = pyo3::ffi::PyThreadState_Get();
            let state = pyo3::ffi::Py_NewInterpreter();
            assert!(!state.is_null());
            pyo3::ffi::PyThreadState_Swap(main);
            SubInterpreter { main, state }
        }
    }

    /// Runs `body` attached to this interpreter. What it returns must not be an object of it.
    fn run<R>(&self, body: impl FnOnce(Python<'_>) -> R) -> R {
        // SAFETY: both states belong to this thread, which is attached again to the main interpreter when this returns; `body`
        // does not panic past here without failing the test, and with it the process.
        unsafe {
            pyo3::ffi::PyThreadState_Swap(self.state);
            let result = body(Python::assume_attached());
            pyo3::ffi::PyThreadState_Swap(self.main);
            result
        }
    }
}

impl Drop for SubInterpreter {
    fn drop(&mut self) {
        // SAFETY: as in `run`; nothing of the interpreter is in use any more.
        unsafe {
            pyo3::ffi::PyThreadState_Swap(self.state);
            pyo3::ffi::Py_EndInterpreter(self.state);
            pyo3::ffi::PyThreadState_Swap(self.main);
        }
    }
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(the_first_interpreter_is_served),
        test!(a_second_interpreter_is_refused),
        test!(the_end_of_a_first_subinterpreter_is_named),
        test!(the_interpreter_after_finalization_is_refused).unless(unless_embedded),
    ],
    scenarios: &[
        scenario!(subinterpreter_comes_first),
        scenario!(reinitializes),
    ],
};
