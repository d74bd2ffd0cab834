//! Panics during a wait: of signal handlers while the main thread waits, which PyO3 resumes where
//! signals are polled, and of the wait itself, in a destructor that runs during unwinding.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::{PyBarrier, PyCondvar, PyMutex, PyOnce, PyOnceLock, PyProtected, PyRwLock, Wait};

use crate::callback::Callback;
use crate::harness::{child, finish, on_threads, wait_until, without_signals};
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::{scenario, test};

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
        expect_panic_of_handler(py, || {
            mutex.lock_with(py, Wait::new().interruptible()).map(drop)
        })?;
        assert!(mutex.is_locked() && !mutex.is_poisoned());
        stage.store(1, SeqCst);
        *mutex.lock_with(py, Wait::new().interruptible())? += 1;
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
        expect_panic_of_handler(py, || cell.wait_with(py, Wait::new().interruptible()))?;
        stage.store(1, SeqCst);
        assert_eq!(cell.wait_with(py, Wait::new().interruptible())?, &1);
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
        expect_panic_of_handler(py, || {
            lock.write_with(py, Wait::new().interruptible()).map(drop)
        })?;
        assert!(!lock.is_write_locked() && !lock.is_poisoned());
        drop(lock.try_read(py).expect("it is only read"));
        stage.store(1, SeqCst);
        wait_until(py, "it is written", || lock.is_write_locked());
        expect_panic_of_handler(py, || {
            lock.read_with(py, Wait::new().interruptible()).map(drop)
        })?;
        expect_panic_of_handler(py, || {
            lock.write_with(py, Wait::new().interruptible()).map(drop)
        })?;
        stage.store(2, SeqCst);
        *lock.write_with(py, Wait::new().interruptible())? += 1;
        Ok(())
    })?;
    assert!(!lock.is_locked());
    assert_eq!(lock.into_inner(), 2);
    Ok(())
}

fn a_condition_variable_outlives_the_panic_of_a_handler(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed) = (PyMutex::new(0), PyCondvar::new());
    let mut guard = mutex.lock(py);
    expect_panic_of_handler(py, || {
        changed.wait_with(&mut guard, Wait::new().interruptible())
    })?;
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
    expect_panic_of_handler(py, || {
        barrier.wait_with(py, Wait::new().interruptible()).map(drop)
    })?;
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
            let waited = catch_unwind(AssertUnwindSafe(|| {
                mutex.lock_with(py, Wait::new().interruptible()).map(drop)
            }));
            let error = PyErr::take(py).expect("it is there still");
            assert!(error.is_instance_of::<pyo3::exceptions::PyKeyError>(py));
            if let Err(panic) = waited {
                std::panic::resume_unwind(panic);
            }
        })
    })
}

/// The message of the panic of `body` in a destructor that runs while its thread unwinds.
fn panic_in_destructor(body: &dyn Fn()) -> String {
    let message = RefCell::new(String::new());
    let first = panic_of(|| {
        let _in_destructor = OnDrop(|| *message.borrow_mut() = panic_of(body));
        panic!("unwinds");
    });
    assert_eq!(first, "unwinds");
    message.into_inner()
}

/// Each form that has no other way to report panics, and names the form that a destructor uses.
fn panics_in_destructors_name_the_cure(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let lock = PyRwLock::new(0);
    let cell = PyOnceLock::new();
    let protected = PyProtected::new(0);
    let poisoned = PyOnce::new();
    panic_of(|| poisoned.call_once(py, || panic!("poisons")));

    let _locked = mutex.lock(py);
    let _written = lock.write(py);
    let forms: &[(&dyn Fn(), &str)] = &[
        (&|| drop(mutex.lock(py)), "lock_checked"),
        (&|| mutex.with(py, |_| ()), "lock_checked"),
        (&|| drop(lock.read(py)), "_checked"),
        (&|| drop(lock.write(py)), "_checked"),
        (&|| poisoned.call_once(py, || ()), "call_once_force"),
        (
            &|| {
                cell.get_or_init(py, || *cell.get_or_init(py, || 1));
            },
            "_checked",
        ),
        (
            &|| {
                // One of its own, because the panic poisons it.
                let once = PyOnce::new();
                once.call_once(py, || once.call_once(py, || ()));
            },
            "_checked",
        ),
        (
            &|| protected.with_mut(py, |_| protected.with_mut(py, |_| ())),
            "`try_` form",
        ),
    ];
    for (form, cure) in forms {
        let clause = "this thread is already panicking";
        let message = panic_of(form);
        assert!(!message.contains(clause), "{message}");
        let message = panic_in_destructor(form);
        assert!(
            message.contains(clause) && message.contains(cure),
            "{message}"
        );
    }
    Ok(())
}

fn checked_forms_in_destructors_return_the_error(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let message = panic_of(|| {
        let _guard = mutex.lock(py);
        let _first = OnDrop(|| assert!(mutex.try_lock(py).is_none()));
        let _second = OnDrop(|| assert!(mutex.lock_checked(py).is_err()));
        panic!("unwinds");
    });
    assert_eq!(message, "unwinds");
    assert!(!mutex.is_locked());
    Ok(())
}

fn the_message_before_an_abort_names_the_cure(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "unwinding::locks_in_a_destructor_during_unwinding")?;
    let finished = finish(py, command, Duration::from_secs(8))?;
    assert!(
        finished.status.is_some_and(|status| !status.success()),
        "{finished:?}"
    );
    assert!(finished.output.contains("lock_checked"), "{finished:?}");
    Ok(())
}

fn locks_in_a_destructor_during_unwinding(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    let _guard = MUTEX.lock(py);
    let _in_destructor = OnDrop(|| *MUTEX.lock(py) += 1);
    panic!("unwinds");
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_mutex_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_cell_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_read_write_lock_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_condition_variable_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(a_barrier_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(an_exception_on_its_way_outlives_the_panic_of_a_handler).unless(without_signals),
        test!(panics_in_destructors_name_the_cure),
        test!(checked_forms_in_destructors_return_the_error),
        test!(the_message_before_an_abort_names_the_cure),
    ],
    scenarios: &[scenario!(locks_in_a_destructor_during_unwinding)],
};
