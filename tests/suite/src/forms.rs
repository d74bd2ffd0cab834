//! Every form of an operation: those that panic where another gives an error, those for guards that own a reference, and what errors show.
//! The other files test what an operation does by one of its forms; here are the ones that nobody would otherwise call in that case.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{self, Arc};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3_sync::critical_section::with_critical_section_mutex;
use pyo3_sync::ext::{CondvarExt, MutexArcExt, RwLockExt};
use pyo3_sync::{
    PyCondvar, PyImport, PyMutex, PyOnce, PyOnceLock, PyProtected, PyRwLock, PyRwLockWriteGuard,
    TryAttachedError, Wait, WaitError, compat,
};

use crate::harness::{Sleeper, on_two_threads, wait_until};
use crate::panics::panic_of;
use crate::registry::Module;
use crate::test;

fn a_deadlock_of_an_owning_guard_panics(py: Python<'_>) -> PyResult<()> {
    let mutex = Arc::new(PyMutex::new(0));
    let guard = PyMutex::lock_arc(&mutex, py);
    let message = panic_of(|| PyMutex::lock_arc(&mutex, py));
    assert!(message.contains("already holds the PyMutex"), "{message}");
    drop(guard);

    let lock = Arc::new(PyRwLock::new(0));
    let writing = PyRwLock::write_arc(&lock, py);
    for message in [
        panic_of(|| PyRwLock::read_arc(&lock, py)),
        panic_of(|| PyRwLock::write_arc(&lock, py)),
    ] {
        assert!(message.starts_with("deadlock"), "{message}");
    }
    // A timeout that `Instant` cannot represent is none.
    let forever = Duration::MAX;
    let error = lock.read_with(py, forever).unwrap_err();
    assert!(matches!(error, WaitError::Deadlock(_)), "{error}");
    drop(writing);
    assert!(!mutex.is_locked() && !lock.is_locked());
    assert!(lock.read_with(py, forever).is_ok());
    Ok(())
}

fn a_closure_that_forces_itself_panics(py: Python<'_>) -> PyResult<()> {
    let once = PyOnce::new();
    once.call_once_force(py, |_| {
        let message = panic_of(|| once.call_once_force(py, |_| ()));
        assert!(message.starts_with("deadlock"), "{message}");
    });
    assert!(once.is_completed());
    Ok(())
}

fn a_thread_without_a_token_is_told(py: Python<'_>) -> PyResult<()> {
    let (mutex, lock) = (PyMutex::new(0), PyRwLock::new(0));
    let (guard, reading) = (mutex.lock(py), lock.read(py));
    for refused in [
        mutex.try_with_attached(|_, _| ()),
        lock.try_write_attached(|_, _| ()),
    ] {
        let error = refused.expect_err("this thread has the lock");
        assert!(error.to_string().starts_with("deadlock"), "{error}");
        let error = PyErr::from(error);
        assert!(error.is_instance_of::<PyRuntimeError>(py));
        let name = error.get_type(py).name()?;
        assert_eq!(name.to_cow()?, "DeadlockError");
    }
    drop((guard, reading));
    let error = TryAttachedError::NotAttached;
    assert!(error.to_string().contains("cannot attach"), "{error}");
    assert!(PyErr::from(error).is_instance_of::<PyRuntimeError>(py));
    Ok(())
}

fn borrows_of_two_cells_that_are_refused(py: Python<'_>) -> PyResult<()> {
    let (a, b) = (PyProtected::new(1), PyProtected::new(2));
    b.with_mut(py, |_| {
        let error = a.try_with2(py, &b, |_, _| ()).expect_err("b is borrowed");
        assert!(
            error.to_string().contains(" is mutably borrowed"),
            "{error}"
        );
        assert!(format!("{error:?}").starts_with("ProtectedBorrowError(\"already borrowed"));
        let message = panic_of(|| a.with2(py, &b, |_, _| ()));
        assert!(message.contains("already borrowed"), "{message}");
        let message = panic_of(|| a.with2_mut(py, &b, |_, _| ()));
        assert!(message.contains("already borrowed"), "{message}");
    });
    // What was borrowed before the refusal was given back.
    a.with2_mut(py, &b, std::mem::swap);
    assert_eq!((a.into_inner(), b.into_inner()), (2, 1));
    Ok(())
}

fn borrows_in_an_entered_section(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(vec![1]);
    with_critical_section_mutex(py, &cell, |entered| {
        let mut exclusive = entered.borrow_mut();
        exclusive.push(2);
        assert_eq!(format!("{exclusive:?}"), "[1, 2]");
        let error = entered.try_borrow().expect_err("it is borrowed");
        assert!(
            error.to_string().contains(" tried ") && error.to_string().contains("to borrow"),
            "{error}"
        );
        drop(exclusive);
        let shared = entered.borrow();
        assert_eq!(format!("{shared:?}"), "[1, 2]");
    });
    Ok(())
}

fn what_is_shown(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(());
    let guard = mutex.lock(py);
    let error = mutex.lock_checked(py).expect_err("this thread holds it");
    assert!(format!("{error:?}").starts_with("DeadlockError(\"deadlock: "));
    drop(guard);

    let lock = PyRwLock::new(());
    let mut writing = lock.write(py);
    let mut reading = None;
    panic_of(|| PyRwLockWriteGuard::unlocked(&mut writing, || reading = Some(lock.read(py))));
    assert_eq!(format!("{writing:?}"), "<not held>");

    assert_eq!(
        PyImport::<PyAny>::new("os", "").to_string(),
        "the module os"
    );
    let cell = compat::GILOnceCell::<i32>::new();
    assert_eq!(format!("{cell:?}"), "GILOnceCell(<empty>)");
    Ok(())
}

fn what_is_not_there(_: Python<'_>) -> PyResult<()> {
    let mut cell = PyOnceLock::<i32>::new();
    assert_eq!(cell.get_mut(), None);
    assert_eq!(cell.take(), None);
    assert_eq!(cell.into_inner(), None);
    Ok(())
}

fn an_interruptible_wait_that_is_not_interrupted(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed) = (PyMutex::new(0), PyCondvar::new());
    on_two_threads(
        py,
        |py| {
            let mut guard = mutex.lock(py);
            changed.wait_while_with(
                &mut guard,
                |value| *value == 0,
                Wait::new().interruptible(),
            )?;
            assert_eq!(*guard, 1);
            PyResult::Ok(())
        },
        |py| {
            *mutex.lock(py) = 1;
            changed.notify_all();
        },
    )
    .0
}

/// The mutex was poisoned while the others waited for a notification. They get their data with the news.
fn a_poisoned_mutex_after_a_wait(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed) = (sync::Mutex::new(0), sync::Condvar::new());
    thread::scope(|scope| {
        let guard = mutex.lock().unwrap();
        scope.spawn(|| {
            let poisoning = panic_of(|| {
                let mut guard = mutex.lock().unwrap_or_else(sync::PoisonError::into_inner);
                *guard = 1;
                changed.notify_all();
                panic!("on purpose");
            });
            assert_eq!(poisoning, "on purpose");
        });
        let waited = changed.wait_while_attached(py, &mutex, guard, |value| *value == 0);
        assert_eq!(*waited.expect_err("it is poisoned").into_inner(), 1);

        let guard = mutex.lock().unwrap_or_else(sync::PoisonError::into_inner);
        let limit = Duration::from_millis(1);
        let waited = changed.wait_timeout_while_attached(py, &mutex, guard, limit, |_| true);
        let (guard, _) = waited.expect_err("it is poisoned").into_inner();
        assert_eq!(*guard, 1);
    });
    Ok(())
}

fn a_writer_and_a_re_entrant_owner_wait_detached(py: Python<'_>) -> PyResult<()> {
    let rwlock = sync::RwLock::new(0);
    let mutex = Arc::new(parking_lot::ReentrantMutex::new(()));
    let (rwlock, mutex) = (&rwlock, &mutex);
    for is_written in [true, false] {
        let (taken, waiter) = (&AtomicBool::new(false), &Sleeper::new());
        thread::scope(|scope| {
            scope.spawn(move || {
                let _reading = rwlock.read().unwrap();
                let _owned = mutex.lock();
                taken.store(true, SeqCst);
                // Attaches while it has both: this hangs if the other waits attached.
                Python::attach(|py| wait_until(py, "the other sleeps", || waiter.is_asleep()));
            });
            wait_until(py, "it is taken", || taken.load(SeqCst));
            waiter.announce();
            if is_written {
                *rwlock.write_attached(py).unwrap() += 1;
            } else {
                drop(mutex.lock_arc_attached(py));
            }
        });
    }
    assert_eq!(*rwlock.read().unwrap(), 1);
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_deadlock_of_an_owning_guard_panics),
        test!(a_closure_that_forces_itself_panics),
        test!(a_thread_without_a_token_is_told),
        test!(borrows_of_two_cells_that_are_refused),
        test!(borrows_in_an_entered_section),
        test!(what_is_shown),
        test!(what_is_not_there),
        test!(an_interruptible_wait_that_is_not_interrupted),
        test!(a_poisoned_mutex_after_a_wait),
        test!(a_writer_and_a_re_entrant_owner_wait_detached),
    ],
    scenarios: &[],
};
