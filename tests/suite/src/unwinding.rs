//! Signal handlers that panic while the main thread waits: PyO3 lets such a panic go on in whoever looks for signals.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::{PyBarrier, PyCondvar, PyMutex, PyOnceLock, PyRwLock};

use crate::callback::Callback;
use crate::harness::{on_threads, wait_until, without_signals};
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::test;

/// Waits on this thread, which is the main one, until a signal comes whose handler panics, and checks that it is this panic
/// that ends the wait.
fn expect_panic_of_handler<R>(py: Python<'_>, wait: impl FnOnce() -> R) -> PyResult<()> {
    let names = PyDict::new(py);
    names.set_item("handle", Callback::new(|_| panic!("in the handler")))?;
    let code = c"
import signal
signal.signal(signal.SIGALRM, lambda number, frame: handle())
signal.setitimer(signal.ITIMER_REAL, 0.15)
";
    py.run(code, Some(&names), None)?;
    assert_eq!(panic_of(wait), "in the handler");
    Ok(())
}

/// Runs `body` while another thread runs `hold`, which is given a function that stays, detached, until `body` is over or tells it to
/// go on, which it does by counting.
fn beside(
    py: Python<'_>,
    hold: impl FnOnce(Python<'_>, &dyn Fn(Python<'_>, usize)) + Send,
    body: impl FnOnce(&AtomicUsize) -> PyResult<()>,
) -> PyResult<()> {
    let (stage, holds) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stay = |py: Python<'_>, until: usize| {
        holds.fetch_add(1, SeqCst);
        wait_until(py, "it may go on", || stage.load(SeqCst) >= until);
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| Python::attach(|py| hold(py, &stay)));
        wait_until(py, "the other holds", || holds.load(SeqCst) > 0);
        let result = {
            let _end = OnDrop(|| stage.store(usize::MAX, SeqCst));
            body(&stage)
        };
        py.detach(|| other.join().expect("it ends"));
        result
    })
}

fn a_mutex_outlives_the_panic_of_a_handler(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let hold = |py: Python<'_>, stay: &dyn Fn(Python<'_>, usize)| {
        let _guard = mutex.lock(py);
        stay(py, 1);
    };
    beside(py, hold, |stage| {
        expect_panic_of_handler(py, || mutex.lock_interruptible(py).map(drop))?;
        assert!(mutex.is_locked() && !mutex.is_poisoned());
        stage.store(1, SeqCst);
        *mutex.lock_interruptible(py)? += 1;
        Ok(())
    })?;
    assert_eq!(mutex.into_inner(), 1);
    Ok(())
}

fn a_cell_outlives_the_panic_of_a_handler(py: Python<'_>) -> PyResult<()> {
    let cell = PyOnceLock::new();
    let fill = |py: Python<'_>, stay: &dyn Fn(Python<'_>, usize)| {
        cell.get_or_init(py, || {
            stay(py, 1);
            1
        });
    };
    beside(py, fill, |stage| {
        expect_panic_of_handler(py, || cell.get_or_try_init_py(py, || Ok(2)))?;
        expect_panic_of_handler(py, || cell.wait_interruptible(py))?;
        stage.store(1, SeqCst);
        assert_eq!(cell.wait_interruptible(py)?, &1);
        Ok(())
    })
}

fn a_read_write_lock_outlives_the_panic_of_a_handler(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new(0);
    let hold = |py: Python<'_>, stay: &dyn Fn(Python<'_>, usize)| {
        let reading = lock.read(py);
        stay(py, 1);
        drop(reading);
        let mut writing = lock.write(py);
        *writing += 1;
        stay(py, 2);
    };
    beside(py, hold, |stage| {
        expect_panic_of_handler(py, || lock.write_interruptible(py).map(drop))?;
        assert!(!lock.is_write_locked() && !lock.is_poisoned());
        drop(lock.try_read(py).expect("it is only read"));
        stage.store(1, SeqCst);
        wait_until(py, "it is written", || lock.is_write_locked());
        expect_panic_of_handler(py, || lock.read_interruptible(py).map(drop))?;
        expect_panic_of_handler(py, || lock.write_interruptible(py).map(drop))?;
        stage.store(2, SeqCst);
        *lock.write_interruptible(py)? += 1;
        Ok(())
    })?;
    assert!(!lock.is_locked());
    assert_eq!(lock.into_inner(), 2);
    Ok(())
}

fn a_condition_variable_outlives_the_panic_of_a_handler(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed) = (PyMutex::new(0), PyCondvar::new());
    let mut guard = mutex.lock(py);
    expect_panic_of_handler(py, || changed.wait_interruptible(&mut guard))?;
    // The guard holds the mutex as before the wait.
    *guard += 1;
    assert!(on_threads(py, 1, |py, _| mutex.try_lock(py).is_none())[0]);
    drop(guard);
    assert!(!mutex.is_locked() && !mutex.is_poisoned());
    on_threads(py, 2, |py, number| {
        if number == 0 {
            changed.wait_while(&mut mutex.lock(py), |value| *value < 2);
        } else {
            *mutex.lock(py) += 1;
            changed.notify_one();
        }
    });
    Ok(())
}

fn a_barrier_outlives_the_panic_of_a_handler(py: Python<'_>) -> PyResult<()> {
    let barrier = PyBarrier::new(2);
    expect_panic_of_handler(py, || barrier.wait_interruptible(py).map(drop))?;
    // This thread does not count as having come.
    let leaders = on_threads(py, 2, |py, _| barrier.wait(py).is_leader());
    assert!(leaders[0] != leaders[1]);
    Ok(())
}

/// A destructor waits while an exception is on its way, and a handler panics: the exception is there when the panic has been caught.
fn an_exception_on_its_way_outlives_the_panic_of_a_handler(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let hold = |py: Python<'_>, stay: &dyn Fn(Python<'_>, usize)| {
        let _guard = mutex.lock(py);
        stay(py, 1);
    };
    beside(py, hold, |_| {
        expect_panic_of_handler(py, || {
            pyo3::exceptions::PyKeyError::new_err("on its way").restore(py);
            let waited = catch_unwind(AssertUnwindSafe(|| mutex.lock_interruptible(py).map(drop)));
            let error = PyErr::take(py).expect("it is there still");
            assert!(error.is_instance_of::<pyo3::exceptions::PyKeyError>(py));
            if let Err(panic) = waited {
                std::panic::resume_unwind(panic);
            }
        })
    })
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_mutex_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_cell_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_read_write_lock_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_condition_variable_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_barrier_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(an_exception_on_its_way_outlives_the_panic_of_a_handler).unless(without_signals),
    ],
    scenarios: &[],
};
