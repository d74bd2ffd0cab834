//! Sections of cells when the interpreter ends while threads fight for them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::PyProtected;

use crate::callback::Callback;
use crate::harness::{PythonThread, child, finish, wait_until};
use crate::registry::Module;
use crate::{scenario, test};

/// A thread is stopped inside of a section, at exit, and CPython makes the thread that waits for the section its owner, which cannot
/// attach any more. So the section would be taken for ever.
fn a_section_that_was_handed_over_at_exit_holds_nobody_up(py: Python<'_>) -> PyResult<()> {
    for _ in 0..5 {
        let command = child(py, "sections_at_exit::ends_with_a_section_taken")?;
        let finished = finish(py, command, Duration::from_secs(8))?;
        finished.expect_success();
        assert!(
            finished.output.ends_with("the call returned"),
            "{}",
            finished.output
        );
    }
    Ok(())
}

fn ends_with_a_section_taken(py: Python<'_>) -> PyResult<()> {
    static CELL: PyProtected<u64> = PyProtected::new(0);
    static OTHER: PyProtected<u64> = PyProtected::new(0);
    static STAGE: AtomicUsize = AtomicUsize::new(0);
    let stay_inside = Callback::new(|py| {
        CELL.with_mut(py, |_| {
            STAGE.store(1, SeqCst);
            py.run(c"while True: pass", None, None)
        })
    });
    let wait = Callback::new(|py| {
        STAGE.store(2, SeqCst);
        loop {
            // It gets in for a moment whenever the other one is stopped.
            let _ = CELL.try_with_mut(py, |_| ());
            py.detach(thread::yield_now); // So that it can be stopped outside too.
        }
    });
    let names = PyDict::new(py);
    names.set_item("stay_inside", stay_inside)?;
    names.set_item("wait", wait)?;
    Callback::new(|py| {
        // The data stay borrowed by the thread that was stopped.
        assert!(CELL.try_with_mut(py, |_| ()).is_err());
        assert!(CELL.try_with(py, |_| ()).is_err());
        assert!(CELL.try_with2(py, &OTHER, |_, _| ()).is_err());
        OTHER.with_mut(py, |value| *value += 1);
        Ok(())
    })
    .at_finalisation(py)?;
    PythonThread::start("stay_inside()", &names)?;
    wait_until(py, "it is inside", || STAGE.load(SeqCst) == 1);
    PythonThread::start("wait()", &names)?;
    wait_until(py, "the other waits", || STAGE.load(SeqCst) == 2);
    // From one millisecond on a mutex of CPython's is handed over.
    py.detach(|| thread::sleep(Duration::from_millis(20)));
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_section_that_was_handed_over_at_exit_holds_nobody_up)
            .limit(50)
            .only_free_threaded("where there is a GIL nobody waits for a section"),
    ],
    scenarios: &[scenario!(ends_with_a_section_taken)],
};
