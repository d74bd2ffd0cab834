//! Sections of cells when the interpreter ends while threads fight for them.

use std::hint;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::PyProtected;
use pyo3_sync::critical_section::with_critical_section_mutex;

use crate::callback::Callback;
use crate::frozen::{Freezable, thaw, without_frozen_threads};
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

/// The finalizing thread must not unlock a mutex that has a parked waiter: CPython would hand it
/// over to the waiter, which never attaches.
fn a_mutex_with_parked_waiters_is_not_handed_over_at_exit(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "sections_at_exit::ends_with_parked_waiters")?;
    let finished = finish(py, command, Duration::from_secs(20))?;
    finished.expect_success();
    assert!(
        finished.output.ends_with("the call returned"),
        "{}",
        finished.output
    );
    Ok(())
}

/// Leaves an unlocked mutex with a parked waiter behind. Two threads wait for the section of a
/// cell. The unlocking thread wakes the first, which is frozen. The second stays parked.
fn ends_with_parked_waiters(py: Python<'_>) -> PyResult<()> {
    static CELL: PyProtected<u64> = PyProtected::new(0);
    static OTHER: PyProtected<u64> = PyProtected::new(0);
    static WAITERS: [Freezable; 2] = [const { Freezable::new() }; 2];
    static STEP: AtomicUsize = AtomicUsize::new(0);
    const GIVEN_UP: usize = usize::MAX;
    static ENTERED: AtomicUsize = AtomicUsize::new(0);
    let names = PyDict::new(py);
    for (number, waiter) in WAITERS.iter().enumerate() {
        let wait = Callback::new(move |py| {
            waiter.announce();
            for step in (number + 1..).step_by(WAITERS.len()) {
                while STEP.load(SeqCst) < step {
                    thread::yield_now(); // Attached, so that it waits for the section at once.
                }
                if STEP.load(SeqCst) == GIVEN_UP {
                    return Ok(());
                }
                CELL.with_mut(py, |_| ());
                ENTERED.fetch_add(1, SeqCst);
            }
            Ok(())
        });
        names.set_item(format!("wait_{number}"), wait)?;
    }
    Callback::new(|py| {
        // Detaching suspends the sections. They are resumed on the mutexes they began with.
        CELL.with_mut(py, |_| py.detach(|| ()));
        CELL.with2_mut(py, &OTHER, |_, _| py.detach(|| ()));
        with_critical_section_mutex(py, &CELL, |cell| {
            OTHER.with_mut(py, |_| py.detach(|| ()));
            *cell.borrow_mut() += 1;
        });
        Ok(())
    })
    .at_finalisation(py)?;
    PythonThread::start("wait_0()", &names)?;
    PythonThread::start("wait_1()", &names)?;
    wait_until(py, "they run", || {
        WAITERS.iter().all(Freezable::is_announced)
    });

    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        // CPython hands a mutex over to a waiter that has been parked for a millisecond. Such a
        // mutex is locked, which is another case. So the first waiter must be unparked sooner.
        let begin = with_critical_section_mutex(py, &CELL, |_| {
            let begin = Instant::now();
            let is_in_time = || begin.elapsed() < Duration::from_millis(1);
            // One after the other. They would wait for the queue attached, which looks like being
            // parked.
            for waiter in &WAITERS {
                STEP.fetch_add(1, SeqCst);
                while is_in_time() && !waiter.is_parked() {
                    hint::spin_loop();
                }
            }
            WAITERS.iter().for_each(Freezable::freeze);
            while is_in_time() && !WAITERS.iter().all(Freezable::is_frozen) {
                hint::spin_loop();
            }
            begin
        });
        let is_woken_in_time = begin.elapsed() < Duration::from_millis(1);
        if is_woken_in_time && WAITERS.iter().all(Freezable::is_frozen) {
            return Ok(()); // They stay frozen until the process ends.
        }
        thaw();
        wait_until(py, "they have entered", || {
            ENTERED.load(SeqCst) == STEP.load(SeqCst)
        });
        wait_until(py, "they are thawed", || {
            !WAITERS.iter().any(Freezable::is_frozen)
        });
    }
    // The machine is busy, and nothing is shown. Threads that stay attached would hold up the exit.
    STEP.store(GIVEN_UP, SeqCst);
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_section_that_was_handed_over_at_exit_holds_nobody_up)
            .limit(50)
            .only_free_threaded("where there is a GIL nobody waits for a section"),
        test!(a_mutex_with_parked_waiters_is_not_handed_over_at_exit)
            .limit(40)
            .unless(without_frozen_threads),
    ],
    scenarios: &[
        scenario!(ends_with_a_section_taken),
        scenario!(ends_with_parked_waiters),
    ],
};
