//! Threads that come and go, and waits without a limit that other threads are sure to end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use pyo3::prelude::*;
use pyo3::types::IntoPyDict;
use pyo3_sync::{PyBarrier, PyCondvar, PyMutex, PyOnceLock};

use super::actions::act_contained;
use super::chance::{self, below, number, one_in};
use super::ledger;
use super::passages;
use super::shutdown;
use super::world::{COUNTS, contain, count, expect, fail, world};
use crate::callback::Callback;

/// Runs bodies on threads of their own, which are given a stream of choices each, to their end.
fn on_threads(py: Python<'_>, bodies: &[&(dyn Fn(Python<'_>) + Sync)]) {
    ledger::doing(ledger::JOINING);
    let bodies: Vec<_> = bodies.iter().map(|body| (number(), *body)).collect();
    py.detach(|| {
        thread::scope(|scope| {
            let threads = bodies.into_iter().map(|(seed, body)| {
                count(&COUNTS.threads);
                scope.spawn(move || {
                    chance::start(seed);
                    // Before it may wait for ever, so that this is noticed.
                    ledger::doing("is one of several threads that were started together");
                    attach_first(|py| contain(|| body(py)));
                })
            });
            let threads: Vec<_> = threads.collect(); // All of them, before the first is waited for.
            for thread in threads {
                match thread.join() {
                    Ok(()) => passages::over(),
                    Err(_) => fail("a thread has panicked"),
                }
            }
        });
    });
    ledger::doing("has joined");
}

/// Attaches a thread that was not attached before, and comes to its end next: [`passages::over`] when it was joined.
pub(super) fn attach_first<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    passages::begin();
    let result = Python::attach(|py| {
        passages::over_attached(py);
        body(py)
    });
    passages::begin();
    result
}

pub(super) fn act(py: Python<'_>) -> PyResult<()> {
    if !one_in(3) || !ledger::holds_nothing() || shutdown::has_begun() {
        // Others may be waiting for this thread, which must not wait for them.
        return Ok(());
    }
    match below(6) {
        0 => meet(py),
        1 => hand_over(py),
        2 => wait_for_a_value(py),
        // In CPython `threading` does not survive an exception that a signal handler raises in the middle of it.
        3 if !world().signals || !ledger::is_main() => return python_thread(py),
        _ => {
            let actions = 1 + below(12);
            let body = |py: Python<'_>| {
                for _ in 0..actions {
                    act_contained(py);
                }
            };
            let bodies: [&(dyn Fn(Python<'_>) + Sync); 3] = [&body; 3];
            on_threads(py, &bodies[below(3)..]);
        }
    }
    Ok(())
}

fn meet(py: Python<'_>) {
    const ROUNDS: usize = 5;
    let (barrier, leaders, inside) = (PyBarrier::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
    let body = |py: Python<'_>| {
        for round in 0..ROUNDS {
            if one_in(3) {
                py.detach(thread::yield_now);
            }
            inside.fetch_add(1, SeqCst);
            if barrier.wait(py).is_leader() {
                leaders.fetch_add(1, SeqCst);
            }
            expect(
                inside.load(SeqCst) >= 3 * (round + 1),
                "a thread has left a barrier before all had come",
            );
        }
    };
    on_threads(py, &[&body, &body, &body]);
    expect(
        leaders.into_inner() == ROUNDS,
        "a barrier had another number of leaders than of meetings",
    );
}

/// Two threads fill a queue, and two wait until something is in it, without a limit.
fn hand_over(py: Python<'_>) {
    const ITEMS: u64 = 20;
    let (queue, changed) = (PyMutex::new(VecDeque::new()), PyCondvar::new());
    let got = AtomicUsize::new(0);
    let put = |py: Python<'_>| {
        for item in 0..ITEMS {
            let mut queue = queue.lock(py);
            changed.wait_while(&mut queue, |queue| queue.len() > 2);
            queue.push_back(item);
            // Both sides wait for the same changes.
            changed.notify_all();
        }
    };
    let get = |py: Python<'_>| {
        for _ in 0..ITEMS {
            let mut queue = queue.lock(py);
            while queue.is_empty() {
                changed.wait(&mut queue);
            }
            queue.pop_front();
            got.fetch_add(1, SeqCst);
            changed.notify_all();
        }
    };
    on_threads(py, &[&put, &get, &put, &get]);
    expect(
        got.into_inner() as u64 == 2 * ITEMS,
        "items were lost between threads",
    );
}

fn wait_for_a_value(py: Python<'_>) {
    let (cell, value) = (PyOnceLock::new(), number());
    let wait = |py: Python<'_>| expect(*cell.wait(py) == value, "a cell has another value");
    let fill = |py: Python<'_>| {
        if one_in(2) {
            expect(
                cell.set(py, value).is_ok(),
                "a cell that was empty is filled",
            );
        } else {
            let fail = cell.get_or_try_init(py, || {
                py.detach(thread::yield_now);
                Err(())
            });
            expect(fail.is_err(), "a cell was filled by a failure");
            cell.get_or_init(py, || {
                py.detach(thread::yield_now);
                value
            });
        }
    };
    on_threads(py, &[&wait, &fill, &wait]);
}

/// A thread that Python makes, and has the state of.
fn python_thread(py: Python<'_>) -> PyResult<()> {
    count(&COUNTS.threads);
    let (seed, actions) = (number(), 1 + below(12));
    let body = Callback::new(move |py| {
        chance::start(seed);
        for _ in 0..actions {
            act_contained(py);
        }
        py.detach(passages::begin);
        Ok(())
    });
    let thread = py.import("threading")?.getattr("Thread")?;
    // Nothing here may ask `threading` for `current_thread()`, as its constructor does if it is not told about `daemon`, and its `join`. A
    // thread that `threading` has not started then gets a thread-local object with a finaliser, and in CPython 3.14 and without a GIL the
    // child of a fork may hang where it drops those of the threads that are gone, before any code of ours runs. docs/verification.md has
    // programs for that.
    let daemon = [("daemon", false)].into_py_dict(py)?;
    let thread = thread.call((py.None(), body), Some(&daemon))?;
    ledger::doing(ledger::JOINING);
    // The state of a thread is made by the one that starts it, attached; what CPython 3.11 cannot fork beside does not happen here.
    thread.call_method0("start")?;
    // From Python 3.13 on; before, there is no such object.
    let handle = thread.getattr("_os_thread_handle");
    let joined = handle.unwrap_or(thread).call_method0("join");
    ledger::doing("has joined");
    joined?;
    py.detach(passages::over);
    Ok(())
}
