//! Forks in the middle of everything: the child uses every lock, gets what it can, and hangs on nothing.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3_sync::{PyBarrier, PyCondvar, PyMutex, PyOnceLock, PyRwLock};

use super::answers::ask_for_everything;
use super::chance::one_in;
use super::ledger::{self, Place};
use super::passages;
use super::shutdown;
use super::world::{Account, COUNTS, contain, count, expect, fail, world};
use crate::harness::on_threads;

/// How long a child may take. If it takes longer, the round fails, and the runner shows where the child is: it looks at every process that a
/// round that failed leaves behind.
const CHILD_LIMIT: Duration = Duration::from_secs(20);

/// When a child ends in which nobody is interested any more, in seconds: one of a round that was started by hand.
const CHILD_ALARM: u32 = 600;

thread_local! {
    /// Finalisers and signal handlers that run meanwhile do nothing.
    static IS_FORKING: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn is_forking() -> bool {
    IS_FORKING.get()
}

pub(super) fn act(py: Python<'_>) -> PyResult<()> {
    if !world().forks || shutdown::has_begun() || !one_in(25) {
        return Ok(());
    }
    ledger::doing("fork");
    let mine = Mine::look();
    let os = py.import("os")?;
    let (fork, exit) = (os.getattr("fork")?, os.getattr("_exit")?);
    let signal = py.import("signal")?;
    let alarm = signal.getattr("alarm")?;
    let child: i32 = {
        let forked = passages::while_none(py, || {
            IS_FORKING.set(true);
            let child = fork.call0();
            IS_FORKING.set(false);
            child
        });
        match forked {
            Some(child) => child?.extract()?,
            None => return Ok(()),
        }
    };
    if child == 0 {
        let failures = COUNTS.failures.load(SeqCst);
        let is_set = alarm.call1((CHILD_ALARM,)).is_ok();
        let body = contain(|| in_child(py, &mine));
        let is_well =
            is_set && matches!(body, Some(Ok(()))) && COUNTS.failures.load(SeqCst) == failures;
        // An exception of a signal handler may come in between.
        loop {
            let _ = exit.call1((i32::from(!is_well),));
        }
    }
    count(&COUNTS.forks);
    wait_for(py, child)
}

fn wait_for(py: Python<'_>, child: i32) -> PyResult<()> {
    let os = py.import("os")?;
    let start = Instant::now();
    loop {
        let (ended, status): (i32, i32) = os
            .call_method1("waitpid", (child, os.getattr("WNOHANG")?))?
            .extract()?;
        if ended == child {
            expect(
                status == 0,
                &format!("the child of a fork ended with the wait status {status}"),
            );
            return Ok(());
        }
        if start.elapsed() > CHILD_LIMIT {
            fail(&format!(
                "the child {child} of a fork hangs: see the processes that were left behind"
            ));
            return Ok(());
        }
        ledger::doing("waits for the child of a fork");
        py.detach(|| thread::sleep(Duration::from_micros(300)));
    }
}

/// What the forking thread may hold; others are held by nobody in the child.
struct Mine {
    mutexes: Vec<bool>,
    rwlocks: Vec<bool>,
}

impl Mine {
    fn look() -> Self {
        let world = world();
        let mutexes = world.mutexes.iter().map(|it| Place::of(&*it.lock));
        let rwlocks = world.rwlocks.iter().map(|it| Place::of(&*it.lock));
        Mine {
            mutexes: mutexes.map(ledger::may_hold).collect(),
            rwlocks: rwlocks.map(ledger::may_hold).collect(),
        }
    }

    /// Takes over what threads that are not there hold. Then all locks can be had but those that this thread holds.
    fn recover(&self, py: Python<'_>) {
        let world = world();
        for (it, is_mine) in world.mutexes.iter().zip(&self.mutexes) {
            if one_in(2) {
                // SAFETY: an account is valid wherever its owner was: it has numbers, and a pointer that is exchanged in one step. Owners
                // lend it to nobody.
                drop(unsafe { it.lock.recover_abandoned(py) });
            } else {
                // SAFETY: as above.
                drop(unsafe { it.lock.reset_abandoned(py, Account::default()) });
            }
            if let (false, Err(error)) = (is_mine, it.lock.lock_checked(py)) {
                fail(&format!(
                    "a mutex that nobody holds in the child of a fork: {error}"
                ));
            }
        }
        for (it, is_mine) in world.rwlocks.iter().zip(&self.rwlocks) {
            if one_in(2) {
                // SAFETY: as above.
                drop(unsafe { it.lock.recover_abandoned(py) });
            } else {
                // SAFETY: as above.
                drop(unsafe { it.lock.reset_abandoned(py, Account::default()) });
            }
            if let (false, Err(error)) = (is_mine, it.lock.write_checked(py)) {
                fail(&format!(
                    "a read-write lock that nobody holds in the child of a fork: {error}"
                ));
            }
        }
    }
}

fn in_child(py: Python<'_>, mine: &Mine) -> PyResult<()> {
    ask_for_everything(py);
    mine.recover(py);
    let (mutex, rwlock) = (PyMutex::new(0), PyRwLock::new(0));
    let (barrier, cell, runs) = (PyBarrier::new(3), PyOnceLock::new(), AtomicUsize::new(0));
    let changed = PyCondvar::new();
    on_threads(py, 3, |py, _| {
        barrier.wait(py);
        *rwlock.write(py) += 1;
        cell.get_or_init(py, || {
            py.detach(thread::yield_now);
            runs.fetch_add(1, SeqCst)
        });
        let mut guard = mutex.lock(py);
        *guard += 1;
        changed.notify_all();
        changed.wait_while(&mut guard, |value| *value < 3);
    });
    let right = *mutex.lock(py) == 3 && *rwlock.read(py) == 3 && runs.into_inner() == 1;
    expect(right, "locks made in the child of a fork do not work");
    Ok(())
}
