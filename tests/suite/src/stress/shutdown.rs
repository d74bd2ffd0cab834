//! The end of the interpreter in the middle of everything: some rounds leave threads behind that use locks, hold them and wait, and then
//! finalisers on the main thread ask for all of it.
//!
//! These threads start when all others have ended and everything has been checked. They make no threads: one that attaches for the first
//! time while the interpreter is being deleted crashes CPython 3.14t, whatever it does then.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::{PyBarrier, PyCondvar, PyMutex, PyOnceLock, Wait};

use super::actions::act_contained;
use super::answers::ask_for_everything;
use super::chance::{self, below, number};
use super::world::{COUNTS, count, fail};
use crate::callback::Callback;
use crate::harness::{PythonThread, wait_until};

static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Held by a thread that does not come back.
static HELD: PyMutex<()> = PyMutex::new(());
static NOTICED: PyMutex<()> = PyMutex::new(());
static CHANGED: PyCondvar = PyCondvar::new();
/// For more threads than there will ever be.
static BARRIER: PyBarrier = PyBarrier::new(1000);
static CELL: PyOnceLock<()> = PyOnceLock::new();

/// Whether no thread, fork or signal may be made any more.
pub(super) fn has_begun() -> bool {
    HAS_BEGUN.load(SeqCst)
}

/// Where threads cannot come back from the end of the interpreter they are frozen, from this version on; before, CPython unwinds them by
/// force, through frames of ours that must not be unwound.
pub(super) fn is_possible(py: Python<'_>) -> bool {
    py.version_info() >= (3, 14)
}

/// Starts the threads, and has `report` called when the interpreter is past the point from which on no other thread can attach. The
/// process ends with code 1 if that fails.
pub(super) fn begin(
    py: Python<'_>,
    report: impl Fn() -> PyResult<()> + Send + Sync + 'static,
) -> PyResult<()> {
    HAS_BEGUN.store(true, SeqCst);
    let names = PyDict::new(py);
    for (name, body) in BODIES {
        let seed = number();
        let act = Callback::new(move |py| {
            chance::start(seed);
            count(&COUNTS.threads);
            BUSY.fetch_add(1, SeqCst);
            body(py)
        });
        names.set_item(name, act)?;
        PythonThread::start(&format!("{name}()"), &names)?;
    }
    for _ in 0..RUST_THREADS {
        let seed = number();
        thread::spawn(move || {
            chance::start(seed);
            count(&COUNTS.threads);
            Python::attach(|py| {
                BUSY.fetch_add(1, SeqCst);
                act_for_ever(py)
            })
        });
    }
    let all = BODIES.len() + RUST_THREADS;
    wait_until(py, "all threads that stay are there", || {
        BUSY.load(SeqCst) == all && HELD.is_locked()
    });
    py.detach(|| thread::sleep(Duration::from_micros(below(20_000) as u64)));
    Callback::new(move |py| {
        let end = || {
            ask_for_everything(py);
            if HELD.lock_checked(py).is_ok() {
                fail("a lock is had at the end of the interpreter whose owner is frozen");
            }
            drop(BARRIER.wait_checked(py));
            count(&COUNTS.shutdowns);
            report()
        };
        if let Err(error) = end() {
            error.display(py);
            // The interpreter would go on, and take no notice.
            std::process::exit(1);
        }
        Ok(())
    })
    .at_finalisation(py)
}

type Body = fn(Python<'_>) -> PyResult<()>;

const RUST_THREADS: usize = 2;

const BODIES: [(&str, Body); 7] = [
    ("act", |py| act_for_ever(py)),
    ("act_too", |py| act_for_ever(py)),
    ("hold", |py| {
        let mut held = HELD.lock_checked(py)?;
        let held = &mut *held;
        py.detach(|| {
            let _held = held;
            loop {
                thread::park();
            }
        })
    }),
    ("wait_for_it", |py| {
        while !HELD.is_locked() {
            py.detach(thread::yield_now);
        }
        HELD.lock_checked(py).map(drop)?;
        Ok(())
    }),
    ("wait_for_a_change", |py| {
        let mut guard = NOTICED.lock_checked(py)?;
        loop {
            CHANGED.wait_checked(&mut guard)?;
        }
    }),
    ("meet", |py| {
        BARRIER.wait_checked(py)?;
        fail("a barrier has let a thread go, who was one of few");
        Ok(())
    }),
    ("wait_for_a_value", |py| {
        CELL.wait_with(py, Wait::new().interruptible())?;
        fail("a cell has a value, which nobody gave it");
        Ok(())
    }),
];

fn act_for_ever(py: Python<'_>) -> ! {
    loop {
        act_contained(py);
    }
}
