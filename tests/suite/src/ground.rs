//! The ground the other tests stand on: the interpreter is what it claims to be, threads are attached, children are seen to end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyKeyError, PyLookupError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::harness::{
    Barrier, PythonThread, child, finish, is_free_threaded, on_threads, on_two_threads, sanitizer,
    wait_until, wait_until_detached,
};
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(6);

/// Two ways to ask the interpreter.
fn the_build_is_known(py: Python<'_>) -> PyResult<()> {
    let variable = py
        .import("sysconfig")?
        .call_method1("get_config_var", ("Py_GIL_DISABLED",))?;
    assert_eq!(variable.is_truthy()?, is_free_threaded(py));
    Ok(())
}

/// Neither thread lets go of the interpreter before it has seen the other attached.
fn attached_threads_run_together(py: Python<'_>) -> PyResult<()> {
    let attached = AtomicUsize::new(0);
    on_threads(py, 2, |_, _| {
        attached.fetch_add(1, Ordering::SeqCst);
        wait_until_detached("both are attached", || attached.load(Ordering::SeqCst) == 2);
    });
    Ok(())
}

fn attached_threads_take_turns(py: Python<'_>) -> PyResult<()> {
    let attached = AtomicUsize::new(0);
    on_threads(py, 2, |py, _| {
        attached.fetch_add(1, Ordering::SeqCst);
        wait_until(py, "both were attached", || {
            attached.load(Ordering::SeqCst) == 2
        });
    });
    Ok(())
}

fn threads_meet_and_give_results(py: Python<'_>) -> PyResult<()> {
    let barrier = Barrier::new(3);
    let numbers = on_threads(py, 3, |py, number| {
        barrier.meet(py);
        number
    });
    assert_eq!(numbers, [0, 1, 2]);
    let both = on_two_threads(py, |_| "first", |_| "second");
    assert_eq!(both, ("first", "second"));
    Ok(())
}

fn python_threads_share_names_and_pass_on_errors(py: Python<'_>) -> PyResult<()> {
    let names = PyDict::new(py);
    PythonThread::start("seen = 1", &names)?.join(py)?;
    assert_eq!(
        names
            .get_item("seen")?
            .expect("the thread has set it")
            .extract::<u8>()?,
        1
    );

    let error = PythonThread::start("{}['absent']", &names)?
        .join(py)
        .unwrap_err();
    assert!(error.is_instance_of::<PyKeyError>(py));
    Ok(())
}

fn a_panic_in_a_thread_is_passed_on(py: Python<'_>) -> PyResult<()> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        on_threads(py, 2, |_, number| assert_ne!(number, 1, "as it should"));
    }));
    assert!(result.is_err());
    Ok(())
}

fn a_child_ends_well(py: Python<'_>) -> PyResult<()> {
    let finished = finish(py, child(py, "ground::says_good_bye")?, CHILD_LIMIT)?;
    finished.expect_success();
    assert_eq!(finished.output.trim(), "hello\ngood bye");
    Ok(())
}

fn a_child_fails(py: Python<'_>) -> PyResult<()> {
    for (scenario, message) in [
        ("ground::raises", "LookupError"),
        ("ground::panics", "panicked"),
    ] {
        let finished = finish(py, child(py, scenario)?, CHILD_LIMIT)?;
        assert_eq!(finished.status.and_then(|status| status.code()), Some(1));
        assert!(finished.output.contains(message), "{}", finished.output);
    }
    Ok(())
}

fn a_child_that_hangs_shows_its_stacks(py: Python<'_>) -> PyResult<()> {
    let finished = finish(py, child(py, "ground::hangs")?, Duration::from_secs(2))?;
    assert_eq!(finished.status, None);
    assert!(
        finished.output.contains("in here_it_sleeps"),
        "{}",
        finished.output
    );
    Ok(())
}

/// Shows that the interpreter is shut down properly after a scenario.
fn says_good_bye(py: Python<'_>) -> PyResult<()> {
    py.run(
        c"import atexit; atexit.register(print, 'good bye'); print('hello')",
        None,
        None,
    )
}

fn raises(_: Python<'_>) -> PyResult<()> {
    Err(PyLookupError::new_err("as it should"))
}

fn panics(_: Python<'_>) -> PyResult<()> {
    panic!("as it should")
}

fn hangs(py: Python<'_>) -> PyResult<()> {
    let code = c"
import time
def here_it_sleeps():
    time.sleep(1000)
here_it_sleeps()
";
    py.run(code, None, None)
}

/// ThreadSanitizer runs handlers between two calls of libc, and the thread in question is inside one.
fn signals_are_late(_: Python<'_>) -> Option<String> {
    (sanitizer()? == "thread")
        .then(|| "ThreadSanitizer lets no handler interrupt a system call".to_owned())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(the_build_is_known),
        test!(attached_threads_run_together)
            .only_free_threaded("with a GIL only one thread is attached at a time"),
        test!(attached_threads_take_turns),
        test!(threads_meet_and_give_results),
        test!(python_threads_share_names_and_pass_on_errors),
        test!(a_panic_in_a_thread_is_passed_on),
        test!(a_child_ends_well),
        test!(a_child_fails),
        test!(a_child_that_hangs_shows_its_stacks).unless(signals_are_late),
    ],
    scenarios: &[
        scenario!(says_good_bye),
        scenario!(raises),
        scenario!(panics),
        scenario!(hangs),
    ],
};
