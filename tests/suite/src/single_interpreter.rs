//! `ensure_single_interpreter`: the statics of an extension serve one interpreter.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

use crate::registry::Module;
use crate::test;

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
    let error = second.run(|py| {
        let module = PyModule::new(py, "mine").expect("it is made");
        let error = pyo3_sync::ensure_single_interpreter(&module).unwrap_err();
        assert!(error.is_instance_of::<PyImportError>(py));
        error.value(py).to_string()
    });
    assert!(
        error.contains("mine cannot be loaded in a second interpreter"),
        "{error}"
    );
    drop(second);
    pyo3_sync::ensure_single_interpreter(&module)
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
    ],
    scenarios: &[],
};
