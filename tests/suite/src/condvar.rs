//! `PyCondvar` and `PyBarrier`: no notification lost, and the mutex locked again whatever happens.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3_sync::{PyBarrier, PyCondvar, PyMutex, PyMutexGuard, Wait, WaitError};

use crate::callback::Callback;
use crate::harness::{
    Sleeper, child, finish, on_threads, on_two_threads, wait_until, without_signals,
};
use crate::interpreter::collect;
use crate::panics::panic_of;
use crate::registry::Module;
use crate::{scenario, test};

/// A bounded queue that many fill and many empty, each change told to one thread.
fn no_notification_is_lost(py: Python<'_>) -> PyResult<()> {
    const EACH: usize = 2000;
    let queue = PyMutex::new(VecDeque::new());
    let (added, removed) = (PyCondvar::new(), PyCondvar::new());
    let sum = AtomicUsize::new(0);
    on_threads(py, 6, |py, number| {
        for item in 0..EACH {
            let mut items = queue.lock(py);
            if number % 2 == 0 {
                removed.wait_while(&mut items, |items| items.len() >= 2);
                items.push_back(item);
                drop(items);
                added.notify_one();
            } else {
                added.wait_while(&mut items, |items| items.is_empty());
                let item = items.pop_front().expect("it is not empty");
                drop(items);
                removed.notify_one();
                sum.fetch_add(item, SeqCst);
            }
        }
    });
    assert_eq!(sum.into_inner(), 3 * EACH * (EACH - 1) / 2);
    assert!(queue.into_inner().is_empty());
    Ok(())
}

fn all_are_notified_by_a_detached_thread(py: Python<'_>) -> PyResult<()> {
    let (ready, changed, waiting) = (PyMutex::new(false), PyCondvar::new(), AtomicUsize::new(0));
    on_threads(py, 5, |py, number| {
        if number == 0 {
            wait_until(py, "four wait", || waiting.load(SeqCst) == 4);
            *ready.lock(py) = true;
            py.detach(|| changed.notify_all());
            return;
        }
        let mut guard = ready.lock(py);
        waiting.fetch_add(1, SeqCst);
        while !*guard {
            changed.wait(&mut guard);
        }
        assert!(ready.is_locked());
    });
    changed.notify_one();
    Ok(())
}

fn waits_time_out(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed) = (PyMutex::new(0), PyCondvar::new());
    let mut guard = mutex.lock(py);
    let (start, limit) = (Instant::now(), Duration::from_millis(30));
    assert_timed_out(changed.wait_with(&mut guard, limit));
    assert!(start.elapsed() >= limit);
    assert_timed_out(changed.wait_with(&mut guard, Instant::now()));
    let start = Instant::now();
    assert_timed_out(changed.wait_while_with(&mut guard, |_| true, limit));
    assert!(start.elapsed() >= limit);
    assert!(
        changed
            .wait_while_with(&mut guard, |_| false, limit)
            .is_ok()
    );
    assert!(mutex.try_lock(py).is_none());
    Ok(())
}

fn assert_timed_out(waited: Result<(), WaitError>) {
    assert!(matches!(waited, Err(WaitError::TimedOut)), "{waited:?}");
}

/// A started timeout covers the wait for the mutex and the wait for the condition.
fn started_timeout_covers_several_waits(py: Python<'_>) -> PyResult<()> {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let (mutex, changed) = (PyMutex::new(0), PyCondvar::new());
    let (waiter, is_held) = (Sleeper::default(), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            let _guard = mutex.lock(py);
            is_held.store(true, SeqCst);
            let start = Instant::now();
            wait_until(py, "most of the timeout is over", || {
                waiter.is_asleep() && start.elapsed() > TIMEOUT * 7 / 10
            });
        },
        |py| {
            wait_until(py, "the mutex is held", || is_held.load(SeqCst));
            let start = Instant::now();
            let wait = Wait::from(TIMEOUT).interruptible().started();
            waiter.announce();
            let mut guard = mutex.lock_with(py, wait).expect("it becomes free");
            let locked = Instant::now();
            assert_timed_out(changed.wait_while_with(&mut guard, |_| true, wait));
            // A restarted timeout would not have expired yet.
            assert!(start.elapsed() >= TIMEOUT && locked.elapsed() < TIMEOUT);
            assert!(mutex.is_locked());
        },
    );
    Ok(())
}

/// A notification ends a wait with a timeout, long before the timeout expires.
fn notifications_end_waits_with_a_timeout(py: Python<'_>) -> PyResult<()> {
    const LIMIT: Duration = Duration::from_secs(8);
    type Form = fn(&PyCondvar, &mut PyMutexGuard<'_, i32>) -> Result<(), WaitError>;
    let waits: [(&str, Form); 4] = [
        ("wait_with a timeout", |changed, guard| {
            changed.wait_with(guard, LIMIT)
        }),
        ("wait_with a deadline", |changed, guard| {
            changed.wait_with(guard, Instant::now() + LIMIT)
        }),
        ("wait_while_with", |changed, guard| {
            changed.wait_while_with(guard, |value| *value == 0, LIMIT)
        }),
        ("a timeout that never expires", |changed, guard| {
            changed.wait_with(guard, Duration::MAX)
        }),
    ];
    for (name, wait) in waits {
        let (mutex, changed, waiter) = (PyMutex::new(0), PyCondvar::new(), Sleeper::default());
        let (came, notified) = on_two_threads(
            py,
            |py| {
                let mut guard = mutex.lock(py);
                waiter.announce();
                while *guard == 0 {
                    assert!(wait(&changed, &mut guard).is_ok(), "{name}");
                }
                assert!(mutex.is_locked());
                Instant::now()
            },
            |py| {
                wait_until(py, "it waits", || {
                    waiter.is_asleep() && mutex.try_lock(py).is_some()
                });
                *mutex.lock(py) = 1;
                let notified = Instant::now();
                changed.notify_one();
                notified
            },
        );
        let late = came.saturating_duration_since(notified);
        assert!(
            late < LIMIT / 2,
            "{name} ended {late:?} after the notification"
        );
    }
    Ok(())
}

/// Neither waits for anything, nor attaches.
fn both_can_be_shown(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed, barrier) = (PyMutex::new(()), PyCondvar::default(), PyBarrier::new(2));
    let waiter = Sleeper::default();
    on_two_threads(
        py,
        |py| {
            let mut guard = mutex.lock(py);
            waiter.announce();
            changed.wait(&mut guard);
            drop(guard);
            barrier.wait(py);
        },
        |py| {
            wait_until(py, "it waits", || {
                waiter.is_asleep() && mutex.try_lock(py).is_some()
            });
            py.detach(|| {
                assert_eq!(format!("{changed:?}"), "PyCondvar { .. }");
                assert_eq!(format!("{barrier:?}"), "PyBarrier { threads: 2, .. }");
            });
            drop(mutex.lock(py));
            changed.notify_all();
            barrier.wait(py);
        },
    );
    Ok(())
}

/// Others attach, and the world can be stopped.
fn a_waiter_holds_nobody_up(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed, waiter) = (PyMutex::new(false), PyCondvar::new(), Sleeper::default());
    on_two_threads(
        py,
        |py| {
            let mut guard = mutex.lock(py);
            waiter.announce();
            changed.wait_while(&mut guard, |ready| !*ready);
        },
        |py| {
            wait_until(py, "it waits", || {
                waiter.is_asleep() && mutex.try_lock(py).is_some()
            });
            collect(py);
            *mutex.lock(py) = true;
            changed.notify_one();
        },
    );
    Ok(())
}

/// Ctrl-C ends the wait, with the mutex locked again.
fn a_signal_ends_the_wait(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed, waiting) = (PyMutex::new(0), PyCondvar::new(), AtomicBool::new(false));
    let signal = py.import("signal")?;
    let interrupt: i32 = signal.getattr("SIGINT")?.extract()?;
    signal.call_method1(
        "signal",
        (interrupt, signal.getattr("default_int_handler")?),
    )?;
    thread::scope(|scope| {
        scope.spawn(|| {
            Python::attach(|py| {
                wait_until(py, "it waits", || {
                    waiting.load(SeqCst) && mutex.try_lock(py).is_some()
                });
                let os = py.import("os").expect("it is there");
                let this = os.call_method0("getpid").expect("a number");
                os.call_method1("kill", (this, interrupt))
                    .expect("it is sent");
            });
        });
        let mut guard = mutex.lock(py);
        waiting.store(true, SeqCst);
        let error = changed
            .wait_while_with(&mut guard, |_| true, Wait::new().interruptible())
            .unwrap_err();
        assert!(PyErr::from(error).is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py));
        *guard += 1;
        assert!(mutex.is_locked());
    });
    assert_eq!(mutex.into_inner(), 1);
    Ok(())
}

/// Invariant I9: the mutex cannot be locked again, since its new owner waits for what this thread holds. The guard is disarmed, and the
/// notification goes on to another thread.
fn a_mutex_that_cannot_be_locked_again(py: Python<'_>) -> PyResult<()> {
    let (held, mutex, changed) = (PyMutex::new(()), PyMutex::new(0), PyCondvar::new());
    let (waiting, told) = (AtomicUsize::new(0), AtomicBool::new(false));
    let owner = Sleeper::default();
    on_threads(py, 4, |py, number| match number {
        0 => {
            let held = held.lock(py);
            let mut guard = mutex.lock(py);
            waiting.fetch_add(1, SeqCst);
            assert!(changed.wait_checked(&mut guard).is_err());
            told.store(true, SeqCst);
            assert!(panic_of(|| *guard).contains("this guard holds nothing"));
            assert_eq!(format!("{guard:?}"), "<not held>");
            let again = panic_of(|| changed.wait(&mut guard));
            assert!(again.contains("this guard holds nothing"));
            drop((guard, held));
        }
        1 => {
            wait_until(py, "the first waits", || waiting.load(SeqCst) == 1);
            let mut guard = mutex.lock(py);
            waiting.fetch_add(1, SeqCst);
            changed.wait_while(&mut guard, |value| *value == 0);
        }
        2 => {
            wait_until(py, "both wait", || {
                waiting.load(SeqCst) == 2 && mutex.try_lock(py).is_some()
            });
            *mutex.lock(py) = 1;
            let guard = mutex.lock(py);
            owner.announce();
            drop(held.lock(py));
            drop(guard);
        }
        // Notified now, the first thread completes the cycle: it waits for the mutex of a thread that waits for it.
        _ => {
            wait_until(py, "the owner waits", || owner.is_asleep());
            py.detach(|| changed.notify_one());
        }
    });
    assert!(told.into_inner());
    assert!(!mutex.is_locked() && !held.is_locked());
    Ok(())
}

/// Two threads that take turns: each notification is the only one that there will be.
fn each_notification_counts(py: Python<'_>) -> PyResult<()> {
    const ROUNDS: usize = 5000;
    let (turn, changed) = (PyMutex::new(0), PyCondvar::new());
    on_threads(py, 2, |py, number| {
        for _ in 0..ROUNDS {
            let mut guard = turn.lock(py);
            changed.wait_while(&mut guard, |turn| *turn % 2 != number);
            *guard += 1;
            drop(guard);
            changed.notify_one();
        }
    });
    assert_eq!(turn.into_inner(), 2 * ROUNDS);
    Ok(())
}

/// Threads wait with different mutexes at the same time, and each gets its own back.
fn two_mutexes_can_be_used_at_once(py: Python<'_>) -> PyResult<()> {
    let (mutexes, changed) = ([PyMutex::new(0), PyMutex::new(0)], PyCondvar::new());
    let (waiting, notified) = (AtomicUsize::new(0), AtomicUsize::new(0));
    on_threads(py, 5, |py, number| {
        if number < 4 {
            let mutex = &mutexes[number % 2];
            let mut guard = mutex.lock(py);
            waiting.fetch_add(1, SeqCst);
            changed.wait(&mut guard);
            assert!(mutex.is_locked());
            *guard += 1;
            notified.fetch_add(1, SeqCst);
            return;
        }
        wait_until(py, "four wait", || waiting.load(SeqCst) == 4);
        // Each began to wait before its mutex could be locked here.
        mutexes.iter().for_each(|mutex| drop(mutex.lock(py)));
        changed.notify_one();
        changed.notify_one();
        wait_until(py, "two were notified", || notified.load(SeqCst) >= 2);
        changed.notify_all();
    });
    assert_eq!(mutexes.map(PyMutex::into_inner), [2, 2]);
    Ok(())
}

fn barriers_let_all_go_on_together(py: Python<'_>) -> PyResult<()> {
    const THREADS: usize = 5;
    let (barrier, come, leaders) = (
        PyBarrier::new(THREADS),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    on_threads(py, THREADS, |py, _| {
        for generation in 1..=200 {
            come.fetch_add(1, SeqCst);
            if barrier.wait(py).is_leader() {
                leaders.fetch_add(1, SeqCst);
            }
            assert!(come.load(SeqCst) >= generation * THREADS);
        }
    });
    assert_eq!(leaders.into_inner(), 200);
    assert!(PyBarrier::new(0).wait(py).is_leader());
    assert!(
        PyBarrier::new(1)
            .wait_with(py, Wait::new().interruptible())?
            .is_leader()
    );
    Ok(())
}

/// On the finalising thread nobody else can notify, or come.
fn waiting_at_exit_is_reported(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "condvar::waits_at_exit")?;
    let finished = finish(py, command, Duration::from_secs(8))?;
    finished.expect_success();
    let output = &finished.output;
    assert!(
        output.contains("which no other thread can notify any more"),
        "{output}"
    );
    assert!(output.contains("shutting down"), "{output}");
    Ok(())
}

fn waits_at_exit(py: Python<'_>) -> PyResult<()> {
    Callback::new(|py| {
        let (mutex, changed) = (PyMutex::new(0), PyCondvar::new());
        let result = changed.wait_checked(&mut mutex.lock(py));
        assert!(PyBarrier::new(2).wait_checked(py).is_err());
        Ok(result?)
    })
    .at_finalisation(py)
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(no_notification_is_lost).limit(30),
        test!(each_notification_counts).limit(30),
        test!(all_are_notified_by_a_detached_thread),
        test!(two_mutexes_can_be_used_at_once),
        test!(waits_time_out),
        test!(started_timeout_covers_several_waits),
        test!(notifications_end_waits_with_a_timeout),
        test!(both_can_be_shown),
        test!(a_waiter_holds_nobody_up),
        test!(a_signal_ends_the_wait).unless(without_signals),
        test!(a_mutex_that_cannot_be_locked_again),
        test!(barriers_let_all_go_on_together).limit(30),
        test!(waiting_at_exit_is_reported).limit(20),
    ],
    scenarios: &[scenario!(waits_at_exit)],
};
