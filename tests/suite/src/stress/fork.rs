//! Forks in the middle of everything: the child uses every lock, gets what it can, and hangs on nothing.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3_sync::ext::RwLockExt;
use pyo3_sync::{PyBarrier, PyCondvar, PyMutex, PyOnceLock, PyRwLock};

use super::chance::one_in;
use super::ledger;
use super::world::{COUNTS, contain, count, expect, fail, world};
use crate::harness::on_threads;

/// In seconds.
const CHILD_LIMIT: u32 = 15;

thread_local! {
    /// Finalisers and signal handlers that run meanwhile do nothing.
    static IS_FORKING: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn is_forking() -> bool {
    IS_FORKING.get()
}

pub(super) fn act(py: Python<'_>) -> PyResult<()> {
    if !world().forks || !one_in(25) {
        return Ok(());
    }
    ledger::doing("fork");
    let os = py.import("os")?;
    let (fork, exit) = (os.getattr("fork")?, os.getattr("_exit")?);
    let signal = py.import("signal")?;
    let alarm = signal.getattr("alarm")?;
    let child: i32 = {
        let attachments = world().first_attachments.write_attached(py);
        let _attachments = attachments.expect("no panic under it");
        IS_FORKING.set(true);
        let child = fork.call0();
        IS_FORKING.set(false);
        child?.extract()?
    };
    if child == 0 {
        let failures = COUNTS.failures.load(SeqCst);
        let is_set = alarm.call1((CHILD_LIMIT,)).is_ok();
        let body = contain(|| in_child(py));
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
        if start.elapsed() > Duration::from_secs(u64::from(CHILD_LIMIT) + 5) {
            fail("the child of a fork hangs, and not where its alarm clock ends it");
            return Ok(());
        }
        ledger::doing("waits for the child of a fork");
        py.detach(|| thread::sleep(Duration::from_micros(300)));
    }
}

/// Any answer will do, but there must be one.
fn in_child(py: Python<'_>) -> PyResult<()> {
    let world = world();
    for it in &world.mutexes {
        drop(it.lock.try_lock(py));
        drop(it.lock.try_lock_for(py, Duration::from_millis(1)));
        drop(it.lock.lock_checked(py));
    }
    for it in &world.rwlocks {
        drop(it.lock.try_read(py));
        drop(it.lock.read_checked(py));
        drop(it.lock.try_write_for(py, Duration::from_millis(1)));
        drop(it.lock.write_checked(py));
    }
    for it in &world.protected {
        drop(it.lock.try_with_mut(py, |account| account.first));
    }
    if let Ok(mut queue) = world.queue.lock_checked(py) {
        world.added.notify_one();
        world.added.wait_for(&mut queue, Duration::from_millis(1));
        world.added.notify_all();
    }
    // Taken by whoever was not taken along, perhaps.
    let cells = world.cells.try_lock().ok().map(|cells| cells.clone());
    if let Some(cells) = cells {
        let fill = || Ok(super::world::Payload::new(0, py.None()));
        drop(cells.cell.get_or_try_init_py(py, fill).map(drop));
        drop(cells.once.call_once_force_checked(py, |_| ()));
        if cells.cell.is_initialized() {
            drop(cells.cell.wait_interruptible(py).map(drop));
        }
    }
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
