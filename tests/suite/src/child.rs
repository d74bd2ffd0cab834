//! The child's side of `suite_runner`: lists the tests, or runs one of them, in the process it is in.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::MODULES;
use crate::faults;
use crate::harness::{is_free_threaded, slowdown};
#[cfg(not(abi3t))]
use crate::module_state::pyo3_sync_state_extension;
#[cfg(not(abi3t))]
use crate::pyo3_sync_suite;
use crate::registry::{Body, Scenario, Test};
use crate::stress;

/// Set in a child that embeds its interpreter.
pub const EMBEDDED: &str = "PYO3_SYNC_SUITE_EMBEDDED";

/// What a child started with `arguments` does; an interpreter calls `sys.exit(main(sys.argv[1:]))`.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, arguments: Vec<String>) -> u8 {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = prepare(py).and_then(|()| match arguments[..] {
        ["list"] => list(py),
        ["run", name] => run(py, name),
        ["scenario", name] => call(py, scenario(name)?.body),
        ["stress", seed, milliseconds] => stress(py, seed, milliseconds),
        ["fault", name] => faults::commit(name),
        _ => Err(PyValueError::new_err(format!(
            "not in the protocol: {arguments:?}"
        ))),
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            // Not `print`, which would leave the process by itself for a `SystemExit`.
            error.display(py);
            1
        }
    }
}

/// The `main` of a child that embeds its interpreter: starts it, does what [`main()`] does, and shuts it down.
pub fn embedded(arguments: Vec<String>) -> ExitCode {
    // PyO3 has no such macro with `abi3t`, and no child embeds its interpreter then.
    #[cfg(not(abi3t))]
    pyo3::append_to_inittab!(pyo3_sync_suite);
    #[cfg(not(abi3t))]
    pyo3::append_to_inittab!(pyo3_sync_state_extension);
    Python::initialize();
    let code = Python::attach(|py| main(py, arguments));
    match finalize() {
        0 => ExitCode::from(code),
        _ => ExitCode::from(120),
    }
}

fn finalize() -> i32 {
    // SAFETY:
    // - Called on the thread that initialised the interpreter, once, with nothing of Python left on its stack.
    // - `PyGILState_Ensure` attaches that thread, as finalisation needs; the state it returns is gone with the interpreter.
    unsafe {
        pyo3::ffi::PyGILState_Ensure();
        pyo3::ffi::Py_FinalizeEx()
    }
}

/// Makes hangs and crashes tell where they were, and makes sure that this is the kind of interpreter it claims to be.
fn prepare(py: Python<'_>) -> PyResult<()> {
    // Imported here first, so that it takes this thread for the main one.
    py.import("threading")?;
    let stacks = py.import("faulthandler")?;
    stacks.call_method0("enable")?;
    // On Windows there is no such signal.
    if let Ok(signal) = py.import("signal")?.getattr("SIGUSR1") {
        stacks.call_method1("register", (signal,))?;
    }
    if is_free_threaded(py) && gil_is_enabled(py)? {
        return Err(PyRuntimeError::new_err(
            "the GIL is on in a free-threaded interpreter: the suite would prove nothing about it",
        ));
    }
    Ok(())
}

fn gil_is_enabled(py: Python<'_>) -> PyResult<bool> {
    py.import("sys")?.call_method0("_is_gil_enabled")?.extract()
}

fn list(py: Python<'_>) -> PyResult<()> {
    let listing = PyDict::new(py);
    listing.set_item(
        "python",
        py.import("platform")?.call_method0("python_version")?,
    )?;
    listing.set_item("free_threaded", is_free_threaded(py))?;
    listing.set_item("tests", descriptions(py)?)?;
    println!("{}", py.import("json")?.call_method1("dumps", (listing,))?);
    Ok(())
}

fn descriptions(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let descriptions = PyList::empty(py);
    for test in tests() {
        let description = PyDict::new(py);
        description.set_item("name", test.name())?;
        description.set_item("limit", test.seconds() * u64::from(slowdown()))?;
        description.set_item("ignored", test.obstacle(py))?;
        descriptions.append(description)?;
    }
    Ok(descriptions)
}

/// Runs a test and, when it has passed, gives the receipt that the parent wants to see.
fn run(py: Python<'_>, name: &str) -> PyResult<()> {
    let test = tests()
        .find(|test| test.name() == name)
        .ok_or_else(|| PyValueError::new_err(format!("no test of this name: {name}")))?;
    call(py, test.body)?;
    println!("suite: {name} passed");
    Ok(())
}

/// A round of the stress test.
fn stress(py: Python<'_>, seed: &str, milliseconds: &str) -> PyResult<()> {
    let length = Duration::from_millis(milliseconds.parse()?);
    stress::round(py, seed.parse()?, length)
}

/// Makes a panic an error; the whole message has been printed by then.
fn call(py: Python<'_>, body: Body) -> PyResult<()> {
    catch_unwind(AssertUnwindSafe(|| body(py))).unwrap_or_else(|panic| {
        let message = first_line(panic.as_ref());
        Err(PyRuntimeError::new_err(format!("panicked: {message}")))
    })
}

fn first_line(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    let message = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    message
        .and_then(|message| message.lines().next())
        .unwrap_or("no message")
}

fn tests() -> impl Iterator<Item = &'static Test> {
    MODULES.iter().flat_map(|module| module.tests)
}

pub(crate) fn scenario(name: &str) -> PyResult<&'static Scenario> {
    MODULES
        .iter()
        .flat_map(|module| module.scenarios)
        .find(|scenario| scenario.name() == name)
        .ok_or_else(|| PyValueError::new_err(format!("no scenario of this name: {name}")))
}
