//! The child of a fork uses everything that the forking thread did not hold, and hangs on nothing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3_sync::critical_section::{
    with_critical_section, with_critical_section_mutex, with_critical_section_mutex2,
};
use pyo3_sync::{
    PyBarrier, PyCondvar, PyImport, PyLazy, PyMutex, PyOnce, PyOnceLock, PyProtected, PyRwLock,
    PyTryLazy, Wait,
};

use crate::callback::Callback;
use crate::frozen::{Freezable, thaw, without_frozen_threads};
use crate::harness::{Barrier, on_threads, slowdown, wait_until, wait_until_detached};
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::test;

/// A process that was forked off this one.
pub(crate) struct Forked(i32);

impl Forked {
    /// Forks as Python does, runs `body` in the child, and ends it: well, or with code 1 after a panic, or by the signal of an alarm
    /// clock if it hangs.
    ///
    /// No thread may be attaching for the first time meanwhile: CPython 3.11 makes the state of a new thread under a lock, without the
    /// GIL, and a child that inherits that lock waits for it in `_PyThreadState_DeleteExcept`, before any of our code runs.
    pub(crate) fn running(py: Python<'_>, body: impl FnOnce(Python<'_>)) -> PyResult<Self> {
        let child = fork(py)?;
        if child != 0 {
            return Ok(Forked(child));
        }
        let result = catch_unwind(AssertUnwindSafe(|| body(py)));
        exit(py, result.is_ok())
    }

    pub(crate) fn expect_success(self, py: Python<'_>) -> PyResult<()> {
        let os = py.import("os")?;
        let no_hang = os.getattr("WNOHANG")?;
        // Longer than the alarm clock, which is for what hangs in our code: a child may also hang before it is set.
        let start = Instant::now();
        let status = loop {
            let (child, status): (i32, i32) =
                os.call_method1("waitpid", (self.0, &no_hang))?.extract()?;
            if child == self.0 {
                break status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(12) * slowdown(),
                "a child hangs, and not where its alarm clock ends it"
            );
            py.detach(|| thread::sleep(Duration::from_micros(200)));
        };
        assert_eq!(status, 0, "how the child ended, as a wait status");
        Ok(())
    }
}

/// Forks as Python does. An alarm clock ends a child that hangs.
fn fork(py: Python<'_>) -> PyResult<i32> {
    let child: i32 = py.import("os")?.call_method0("fork")?.extract()?;
    if child == 0 {
        let signal = py.import("signal").expect("a module of Python");
        let alarm = signal.call_method1("alarm", (8 * slowdown(),));
        alarm.expect("the alarm is set");
    }
    Ok(child)
}

/// Ends a child.
fn exit(py: Python<'_>, succeeded: bool) -> ! {
    let exited = py
        .import("os")
        .and_then(|os| os.call_method1("_exit", (i32::from(!succeeded),)));
    unreachable!("the child has not ended: {exited:?}")
}

/// CPython warns of forks in processes with threads, which is what these tests are about.
pub(crate) fn allow_forks(py: Python<'_>) -> PyResult<()> {
    py.import("warnings")?
        .call_method1("simplefilter", ("ignore",))
        .map(drop)
}

/// Locks, waits, initialises and fails in the child, on several threads at once, with everything that there is.
fn everything_works(py: Python<'_>) {
    let (mutex, cell) = (PyMutex::new(0), PyOnceLock::new());
    let (lock, changed) = (PyRwLock::new(0), PyCondvar::new());
    let (barrier, once, runs) = (PyBarrier::new(3), PyOnce::new(), AtomicUsize::new(0));
    let import = PyImport::<PyAny>::new("colorsys", "ONE_THIRD");
    let protected = PyProtected::new(0);
    let run = |py: Python<'_>| {
        py.detach(thread::yield_now);
        runs.fetch_add(1, SeqCst)
    };
    let (lazy, try_lazy) = (PyLazy::new(run), PyTryLazy::new(|py| Ok(run(py))));
    on_threads(py, 3, |py, number| {
        barrier.wait(py);
        {
            let mut guard = lock.write(py);
            let value = &mut *guard;
            py.detach(|| {
                thread::yield_now();
                *value += 1;
            });
        }
        assert_ne!(*lock.read(py), 0);
        once.call_once(py, || {
            run(py);
        });
        lazy.get(py);
        assert!(try_lazy.get(py).is_ok() && import.get(py).is_ok());
        protected.with_mut(py, |value| *value += 1);
        barrier.wait(py);
        let mut all = mutex.lock(py);
        changed.notify_all();
        changed.wait_while(&mut all, |_| *lock.read(py) < 3);
        drop(all);
        for _ in 0..5 {
            let mut guard = mutex.lock(py);
            let value = &mut *guard;
            py.detach(|| {
                thread::yield_now();
                *value += 1;
            });
            drop(guard);
            assert!(mutex.lock_with(py, Duration::from_secs(5)).is_ok());
        }
        let _ = cell.get_or_try_init(py, || Err(()));
        cell.get_or_init(py, || {
            py.detach(thread::yield_now);
            number
        });
        assert!(mutex.lock_checked(py).is_ok());
    });
    assert_eq!(mutex.into_inner(), 15);
    assert_eq!(lock.into_inner(), 3);
    assert_eq!(runs.load(SeqCst), 3);
    assert_eq!(protected.into_inner(), 3);
}

/// Threads that hold, fill and wait, all asleep, while this one forks.
fn a_child_is_not_held_up_by_threads_it_does_not_have(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let (held, free, mine) = (PyMutex::new(vec![1]), PyMutex::new(2), PyMutex::new(3));
    let cell = PyOnceLock::new();
    let (busy, leave) = (AtomicUsize::new(0), AtomicBool::new(false));
    let stay = || {
        busy.fetch_add(1, SeqCst);
        wait_until_detached("told to leave", || leave.load(SeqCst));
    };
    let results = on_threads(py, 9, |py, number| -> PyResult<()> {
        match number {
            0 => {
                let mut guard = held.lock(py);
                let value = &mut *guard;
                py.detach(|| {
                    stay();
                    value.push(2);
                });
            }
            1 => {
                cell.get_or_init(py, || {
                    py.detach(stay);
                    1
                });
            }
            2..8 => {
                wait_until(py, "both are busy", || busy.load(SeqCst) >= 2);
                busy.fetch_add(1, SeqCst);
                if number % 2 == 0 {
                    held.lock(py).push(number);
                } else {
                    assert_eq!(cell.get_or_init(py, || number), &1);
                }
            }
            _ => {
                wait_until(py, "all are busy", || busy.load(SeqCst) == 8);
                py.detach(|| thread::sleep(Duration::from_millis(20))); // Let them fall asleep.
                let guard = mine.lock(py);
                let child = Forked::running(py, |py| {
                    everything_works(py);
                    assert_eq!(*free.lock(py), 2);

                    // A cell whose initialiser is not here is filled afresh, by one of many, and can be waited for.
                    on_threads(py, 4, |py, number| match number {
                        0 => assert_eq!(cell.wait(py), &5),
                        1 => {
                            py.detach(|| thread::sleep(Duration::from_millis(5)));
                            assert_eq!(cell.get_or_init(py, || 5), &5);
                        }
                        _ => assert_eq!(
                            cell.wait_with(py, Wait::new().interruptible())
                                .expect("it is filled"),
                            &5
                        ),
                    });

                    // A mutex whose owner is not here is reported to whoever would wait for it ..
                    assert!(held.is_locked());
                    assert!(held.try_lock(py).is_none());
                    assert!(held.lock_with(py, Duration::from_millis(1)).is_err());
                    let error = held.lock_checked(py).unwrap_err().to_string();
                    assert!(
                        error.contains("held by a thread that does not exist in this forked child"),
                        "{error}"
                    );
                    panic_of(|| drop(held.lock(py)));
                    // .. and can be given new data, once.
                    // SAFETY: the owner lent nothing to this thread.
                    let reset = |value| unsafe { held.reset_abandoned(py, value) };
                    assert_eq!(reset(vec![7]), Ok(()));
                    assert_eq!(reset(vec![8]), Err(vec![8]));
                    assert_eq!(*held.lock(py), [7]);
                    assert!(!held.is_poisoned());

                    // What this thread held it still holds, and can release.
                    assert!(mine.is_locked());
                    assert!(
                        mine.lock_checked(py)
                            .unwrap_err()
                            .to_string()
                            .contains("already holds")
                    );
                    drop(guard);
                    assert!(!mine.is_locked());
                    on_threads(py, 2, |py, _| *mine.lock(py) += 1);
                })?;
                child.expect_success(py)?;
                leave.store(true, SeqCst);
            }
        }
        Ok(())
    });
    results.into_iter().collect::<PyResult<()>>()?;
    assert_eq!(held.into_inner().len(), 5);
    assert_eq!(cell.into_inner(), Some(1));
    // The guard was moved into the closure that the child ran; here it was dropped with the closure.
    assert!(!mine.is_locked());
    Ok(())
}

/// A cell whose initializer ran on another thread is empty in the child, which can move, fill and
/// drop it. The child drops only values that it made.
fn a_child_drops_no_value_of_a_lost_initializer(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let (drops, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let leave = AtomicBool::new(false);
    let value = || OnDrop(|| drops.fetch_add(1, SeqCst));
    let cells = [PyOnceLock::new(), PyOnceLock::new(), PyOnceLock::new()];
    // Not borrowed, so that the child can own the cells.
    let place = AtomicPtr::new(Box::into_raw(Box::new(cells)));
    // SAFETY: only the child and the last line free the cells; then no other thread has them.
    let cells = || unsafe { &*place.load(SeqCst) };
    let results = on_threads(py, 3, |py, number| -> PyResult<()> {
        let [first, second, third] = cells();
        match number {
            0 => {
                let stay = || {
                    busy.fetch_add(1, SeqCst);
                    wait_until_detached("told to leave", || leave.load(SeqCst));
                    value()
                };
                first.get_or_init(py, || {
                    second.get_or_init(py, || {
                        third.get_or_init(py, || py.detach(stay));
                        value()
                    });
                    value()
                });
            }
            1 => {
                wait_until(py, "all are being initialized", || busy.load(SeqCst) == 1);
                busy.fetch_add(1, SeqCst);
                second.get_or_init(py, value);
            }
            _ => {
                wait_until(py, "a thread waits", || busy.load(SeqCst) == 2);
                let child = Forked::running(py, |py| {
                    // SAFETY: this thread is the only one here.
                    let cells = unsafe { Box::from_raw(place.load(SeqCst)) };
                    let [dropped, mut taken, filled] = *cells;
                    drop(dropped);
                    assert!(taken.get_mut().is_none() && taken.take().is_none());
                    assert_eq!(drops.load(SeqCst), 0);
                    filled.get_or_init(py, value);
                    let mut moved = vec![taken, filled];
                    moved.swap(0, 1);
                    assert!(moved[0].get_mut().is_some());
                    drop(moved);
                    assert_eq!(drops.load(SeqCst), 1);
                })?;
                child.expect_success(py)?;
                leave.store(true, SeqCst);
            }
        }
        Ok(())
    });
    results.into_iter().collect::<PyResult<()>>()?;
    // SAFETY: made by `Box::into_raw`, and freed nowhere else in this process.
    drop(unsafe { Box::from_raw(place.into_inner()) });
    assert_eq!(drops.load(SeqCst), 3);
    Ok(())
}

/// Eight threads sleep, in front of a mutex that the forking thread holds and of a condition variable. In the child a wake-up that
/// went to one of them would be lost.
fn a_child_wakes_nobody_who_is_not_there(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let (mutex, waiting) = (PyMutex::new(0), AtomicUsize::new(0));
    let (turn, changed) = (PyMutex::new(0), PyCondvar::new());
    let results = on_threads(py, 9, |py, number| -> PyResult<()> {
        if number < 4 {
            wait_until(py, "it is locked", || mutex.is_locked());
            waiting.fetch_add(1, SeqCst);
            *mutex.lock(py) += 1;
            return Ok(());
        }
        if number < 8 {
            let mut guard = turn.lock(py);
            waiting.fetch_add(1, SeqCst);
            changed.wait_while(&mut guard, |turn| *turn == 0);
            return Ok(());
        }
        let guard = mutex.lock(py);
        wait_until(py, "they wait", || waiting.load(SeqCst) == 8);
        py.detach(|| thread::sleep(Duration::from_millis(20))); // Let them fall asleep.
        let child = Forked::running(py, |py| {
            drop(guard);
            // Each sleeps while another one is inside, and few unlock often enough to make up for a lost wake-up.
            for _ in 0..20 {
                let inside = AtomicUsize::new(0);
                on_threads(py, 2, |py, _| {
                    let mut guard = mutex.lock(py);
                    let value = &mut *guard;
                    py.detach(|| {
                        if inside.fetch_add(1, SeqCst) == 0 {
                            thread::sleep(Duration::from_millis(5)); // The other one comes, and sleeps.
                        }
                        *value += 1;
                    });
                });
            }
            assert_eq!(*mutex.lock(py), 40);
            // Two threads take turns: each notification is the only one.
            on_threads(py, 2, |py, number| {
                for _ in 0..20 {
                    let mut guard = turn.lock(py);
                    changed.wait_while(&mut guard, |turn| *turn % 2 != number);
                    *guard += 1;
                    drop(guard);
                    changed.notify_one();
                }
            });
            assert_eq!(*turn.lock(py), 40);
        })?;
        *turn.lock(py) = 1;
        changed.notify_all();
        child.expect_success(py)
    });
    results.into_iter().collect::<PyResult<()>>()?;
    assert_eq!(mutex.into_inner(), 4);
    Ok(())
}

/// The data as they are, for those who know that they are whole.
fn abandoned_data_can_be_taken_over_on_purpose(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let mutex = PyMutex::new(5);
    let (locked, leave) = (AtomicBool::new(false), AtomicBool::new(false));
    let results = on_threads(py, 2, |py, number| {
        if number == 0 {
            let mut guard = mutex.lock(py);
            let value = &mut *guard;
            locked.store(true, SeqCst);
            py.detach(|| {
                let _value = value;
                wait_until_detached("told to leave", || leave.load(SeqCst));
            });
            return Ok(());
        }
        wait_until(py, "it is locked", || locked.load(SeqCst));
        // SAFETY: an integer that nobody is writing to is whole. The owner exists, so there is nothing to take over here.
        assert!(unsafe { mutex.recover_abandoned(py) }.is_none());
        let child = Forked::running(py, |py| {
            // SAFETY: as above.
            let guard = unsafe { mutex.recover_abandoned(py) };
            assert_eq!(guard.as_deref(), Some(&5));
            assert!(mutex.is_poisoned());
            drop(guard);
            // A child of the child: the survivor's ids are good for as long as it survives.
            let guard = mutex.lock(py);
            let grandchild = Forked::running(py, |py| {
                assert!(
                    mutex
                        .lock_checked(py)
                        .unwrap_err()
                        .to_string()
                        .contains("already holds")
                );
                drop(guard);
                everything_works(py);
            });
            grandchild
                .and_then(|it| it.expect_success(py))
                .expect("it ends well");
        })?;
        leave.store(true, SeqCst);
        child.expect_success(py)
    });
    results.into_iter().collect()
}

const FORKS: usize = 1000;

/// What `parking_lot_core` does not survive: see the module `wait::park`.
fn a_thousand_forks_with_sleepers(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let (mutex, cell) = (PyMutex::new(0), PyOnceLock::new());
    let (read, written) = (PyRwLock::new(0), PyRwLock::new(0));
    let (over, changed) = (PyMutex::new(false), PyCondvar::new());
    let (held, waiting) = (AtomicBool::new(false), AtomicUsize::new(0));
    let results = on_threads(py, 9, |py, number| {
        if number < 8 {
            wait_until(py, "all is held", || held.load(SeqCst));
            waiting.fetch_add(1, SeqCst);
            match number {
                0 | 1 => *mutex.lock(py) += 1,
                2 => assert_eq!(cell.get_or_init(py, || 2), &1),
                3 => assert_eq!(cell.wait(py), &1),
                4 => *read.write(py) += 1,
                5 => assert_eq!(*written.read(py), 0),
                _ => changed.wait_while(&mut over.lock(py), |over| !*over),
            }
            return Ok(());
        }
        let holding = (mutex.lock(py), read.read(py), written.write(py));
        let result = cell.get_or_try_init(py, || {
            held.store(true, SeqCst);
            wait_until(py, "they wait", || waiting.load(SeqCst) == 8);
            for _ in 0..FORKS {
                Forked::running(py, |py| {
                    everything_works(py);
                    changed.notify_one();
                    changed.notify_all();
                    assert!(!*over.lock(py));
                    // This thread has them still, and is told.
                    assert!(mutex.lock_checked(py).is_err());
                    assert!(cell.get_or_init_checked(py, || 3).is_err());
                    assert!(read.write_checked(py).is_err());
                    assert!(written.read_checked(py).is_err());
                })?
                .expect_success(py)?;
            }
            Ok(1)
        });
        drop(holding);
        *over.lock(py) = true;
        changed.notify_all();
        result.map(drop)
    });
    results.into_iter().collect::<PyResult<()>>()?;
    assert_eq!((mutex.into_inner(), read.into_inner()), (2, 1));
    Ok(())
}

/// Forks that catch 16 threads anywhere between falling asleep and waking up.
fn a_thousand_forks_with_busy_threads(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let (mutexes, done) = ([PyMutex::new(0), PyMutex::new(0)], AtomicBool::new(false));
    let all_are_attached = Barrier::new(17);
    let results = on_threads(py, 17, |py, number| {
        all_are_attached.meet(py);
        if number == 0 {
            let _done = OnDrop(|| done.store(true, SeqCst)); // Also after a panic: the others end with this one.
            let result = (0..FORKS).try_for_each(|_| {
                Forked::running(py, |py| {
                    everything_works(py);
                    for mutex in &mutexes {
                        // Free, reserved for a thread that is not here, or owned by one.
                        if mutex.lock_checked(py).is_err() {
                            // SAFETY: the owner lent nothing to this thread.
                            assert!(unsafe { mutex.reset_abandoned(py, 0) }.is_ok());
                        }
                        on_threads(py, 2, |py, _| *mutex.lock(py) += 1);
                    }
                })?
                .expect_success(py)
            });
            return result;
        }
        let mutex = &mutexes[number % 2];
        while !done.load(SeqCst) {
            let mut guard = mutex.lock(py);
            let value = &mut *guard;
            py.detach(|| {
                *value += 1;
                thread::sleep(Duration::from_micros(20));
            });
            drop(guard);
            drop(mutex.lock_with(py, Duration::from_micros(50)));
            PyOnceLock::new().get_or_init(py, || number);
        }
        Ok(())
    });
    results.into_iter().collect()
}

/// Readers and writers that are not there hold their locks, which is reported; the survivor's own are its own.
fn read_write_locks_of_threads_that_are_gone(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let (read, written, mine) = (PyRwLock::new(1), PyRwLock::new(2), PyRwLock::new(3));
    let (busy, leave) = (AtomicUsize::new(0), AtomicBool::new(false));
    let stay = || {
        busy.fetch_add(1, SeqCst);
        wait_until_detached("told to leave", || leave.load(SeqCst));
    };
    let gone = |error: pyo3_sync::DeadlockError| {
        let text = error.to_string();
        assert!(
            text.contains("a thread that does not exist in this forked child"),
            "{text}"
        );
    };
    let results = on_threads(py, 3, |py, number| match number {
        0 => {
            let _guard = read.read(py);
            py.detach(stay);
            Ok(())
        }
        1 => {
            let _guard = written.write(py);
            py.detach(stay);
            Ok(())
        }
        _ => {
            wait_until(py, "both are busy", || busy.load(SeqCst) == 2);
            let guard = mine.read(py);
            let child = Forked::running(py, |py| {
                assert_eq!(*read.read(py), 1);
                gone(read.write_checked(py).map(drop).unwrap_err());
                assert!(read.write_with(py, Duration::from_millis(5)).is_err());
                assert_eq!(*read.read(py), 1);
                gone(written.read_checked(py).map(drop).unwrap_err());
                gone(written.write_checked(py).map(drop).unwrap_err());
                assert_eq!((*mine.read(py), *guard), (3, 3));
                assert!(mine.try_write(py).is_none());
                drop(guard);
                *mine.write(py) += 1;
                for lock in [&read, &written] {
                    // SAFETY: nothing was lent to this thread.
                    assert!(unsafe { lock.reset_abandoned(py, 5) }.is_ok());
                    on_threads(py, 3, |py, _| *lock.write(py) += 1);
                    assert_eq!(*lock.read(py), 8);
                    // SAFETY: as above; and there is nothing to take over.
                    assert!(unsafe { lock.recover_abandoned(py) }.is_none());
                }
                everything_works(py);
            })?;
            leave.store(true, SeqCst);
            child.expect_success(py)
        }
    });
    results.into_iter().collect()
}

/// The data that a thread which is not there had borrowed stay borrowed: an error, and no hang.
fn borrowed_data_stay_borrowed(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let cell = PyProtected::new(1);
    let (inside, leave) = (AtomicBool::new(false), AtomicBool::new(false));
    let results = on_threads(py, 2, |py, number| {
        if number == 0 {
            cell.with_mut(py, |_| {
                inside.store(true, SeqCst);
                py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst)));
            });
            return Ok(());
        }
        wait_until(py, "it is borrowed", || inside.load(SeqCst));
        let child = Forked::running(py, |py| {
            assert!(cell.try_with(py, |_| ()).is_err());
            assert!(
                !cell
                    .try_with_mut(py, |_| ())
                    .unwrap_err()
                    .is_by_this_thread()
            );
        })?;
        leave.store(true, SeqCst);
        child.expect_success(py)
    });
    results.into_iter().collect()
}

/// The owner of a section keeps others waiting for so long that CPython hands its mutex on, and forks.
fn a_section_that_was_fought_for_can_be_entered(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let (cell, done) = (PyProtected::new(0), AtomicBool::new(false));
    let all_are_attached = Barrier::new(4);
    let results = on_threads(py, 4, |py, number| {
        all_are_attached.meet(py);
        if number != 0 {
            while !done.load(SeqCst) {
                cell.with_mut(py, |value| *value += 1);
                py.detach(thread::yield_now); // Or the world could not be stopped for the fork.
            }
            return Ok(());
        }
        let _done = OnDrop(|| done.store(true, SeqCst));
        (0..200).try_for_each(|_| {
            cell.with_mut(py, |value| {
                *value += 1;
                thread::sleep(Duration::from_millis(3));
            });
            Forked::running(py, |py| {
                on_threads(py, 2, |py, _| cell.with_mut(py, |value| *value += 1));
                cell.with_mut(py, |value| {
                    // What was entered before a fork and is left after it.
                    let grandchild = Forked::running(py, |_| *value += 1);
                    grandchild
                        .and_then(|it| it.expect_success(py))
                        .expect("it ends well");
                });
                cell.with_mut(py, |value| *value += 1);
            })?
            .expect_success(py)
        })
    });
    results.into_iter().collect()
}

/// Forks while a mutex is locked for a thread that does not exist in the child: CPython handed it
/// over to a waiter, which has yet to attach.
///
/// - `wait` enters the contended section, on the thread of the waiter.
/// - `body` enters it on the thread that forks. It calls the first closure inside, suspends the
///   section so that the mutex is handed over, and calls the second closure, which forks.
fn fork_with_a_lost_owner(
    py: Python<'_>,
    fork: impl Fn(Python<'_>) -> i32 + Sync,
    wait: impl Fn(Python<'_>) + Sync,
    body: impl Fn(Python<'_>, &dyn Fn(), &dyn Fn()) + Sync,
) -> PyResult<()> {
    allow_forks(py)?;
    let (waiter, is_entered) = (Freezable::new(), AtomicBool::new(false));
    let results = on_threads(py, 2, |py, number| {
        if number == 1 {
            wait_until(py, "the section is entered", || is_entered.load(SeqCst));
            waiter.announce();
            wait(py);
            return Ok(());
        }
        let _thaw = OnDrop(thaw);
        let contend = || {
            is_entered.store(true, SeqCst);
            // Attached, or the section would be suspended.
            wait_until_detached("the waiter is parked", || waiter.is_parked());
            // CPython hands a mutex over to a waiter that has been parked for a millisecond.
            thread::sleep(Duration::from_millis(2));
            waiter.freeze();
            wait_until_detached("the waiter is frozen", || waiter.is_frozen());
        };
        let child = Cell::new(-1);
        let fork = || {
            child.set(fork(py));
            if child.get() != 0 {
                thaw();
            }
        };
        let result = catch_unwind(AssertUnwindSafe(|| body(py, &contend, &fork)));
        if child.get() == 0 {
            exit(py, result.is_ok());
        }
        result.unwrap_or_else(|panic| resume_unwind(panic));
        Forked(child.get()).expect_success(py)
    });
    results.into_iter().collect()
}

fn fork_as_python_does(py: Python<'_>) -> i32 {
    fork(py).expect("it forks")
}

fn a_suspended_section_of_a_cell_is_resumed_in_the_child(py: Python<'_>) -> PyResult<()> {
    let [outer, inner] = [0, 0].map(PyProtected::new);
    fork_with_a_lost_owner(
        py,
        fork_as_python_does,
        |py| outer.with_mut(py, |_| ()),
        |py, contend, fork| {
            with_critical_section_mutex(py, &outer, |entered| {
                contend();
                with_critical_section_mutex(py, &inner, |_| {
                    py.detach(|| ());
                    fork();
                });
                *entered.borrow_mut() += 1;
            });
            outer.with_mut(py, |value| *value += 1);
            inner.with_mut(py, |value| *value += 1);
        },
    )
}

fn a_suspended_section_of_an_object_is_resumed_in_the_child(py: Python<'_>) -> PyResult<()> {
    let [outer, inner] = [(); 2].map(|()| PyList::empty(py).unbind());
    fork_with_a_lost_owner(
        py,
        fork_as_python_does,
        |py| with_critical_section(outer.bind(py), || ()),
        |py, contend, fork| {
            with_critical_section(outer.bind(py), || {
                contend();
                with_critical_section(inner.bind(py), || {
                    py.detach(|| ());
                    fork();
                });
            });
            outer.bind(py).append(1).expect("there is memory");
        },
    )
}

fn a_suspended_section_of_two_cells_is_resumed_in_the_child(py: Python<'_>) -> PyResult<()> {
    let [one, other, inner] = [0, 0, 0].map(PyProtected::new);
    for contended in [&one, &other] {
        fork_with_a_lost_owner(
            py,
            fork_as_python_does,
            |py| contended.with_mut(py, |_| ()),
            |py, contend, fork| {
                with_critical_section_mutex2(py, &one, &other, |one, other| {
                    contend();
                    with_critical_section_mutex(py, &inner, |_| {
                        py.detach(|| ());
                        fork();
                    });
                    *one.borrow_mut() += *other.expect("it is another cell").borrow_mut();
                });
            },
        )?;
    }
    Ok(())
}

/// The mutex of a suspended section may be that of an active one, which the child unlocks itself.
fn an_active_section_keeps_its_mutex_in_the_child(py: Python<'_>) -> PyResult<()> {
    let [outer, middle] = [0, 0].map(PyProtected::new);
    fork_with_a_lost_owner(
        py,
        fork_as_python_does,
        |py| outer.with_mut(py, |_| ()),
        |py, contend, fork| {
            with_critical_section_mutex(py, &outer, |_| {
                with_critical_section_mutex(py, &middle, |_| {
                    py.detach(|| ()); // Suspends both. The inner one is resumed.
                    with_critical_section_mutex(py, &outer, |_| {
                        contend();
                        fork();
                    });
                });
            });
            outer.with_mut(py, |value| *value += 1);
        },
    )
}

/// Attaching resumes the innermost section, before any code of the child can run.
fn a_child_of_a_detached_thread_attaches(py: Python<'_>) -> PyResult<()> {
    let cell = PyProtected::new(0);
    let fork = |_: Python<'_>| {
        // SAFETY: the thread is detached; the child attaches, leaves its section and ends.
        #[cfg(unix)]
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(8 * slowdown());
            }
            child
        }
        #[cfg(not(unix))]
        unreachable!("`without_fork` is why this test is not run")
    };
    fork_with_a_lost_owner(
        py,
        fork,
        |py| cell.with_mut(py, |_| ()),
        |py, contend, fork| {
            with_critical_section_mutex(py, &cell, |_| {
                contend();
                let fork = Detachable(fork);
                py.detach(|| fork.call());
            });
        },
    )
}

/// A closure that is called on its own thread, detached, and uses nothing of Python.
struct Detachable<'a>(&'a dyn Fn());

// SAFETY: see above; it stays on its thread.
unsafe impl Send for Detachable<'_> {}

impl Detachable<'_> {
    fn call(self) {
        (self.0)();
    }
}

/// A borrow that began before the fork ends in the child, where sections are held on another mutex.
fn a_borrow_ends_in_the_child(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let os = py.import("os")?;
    let cell = PyProtected::new(0);
    let fork = |value: &mut i32| -> PyResult<i32> {
        *value += 1;
        os.call_method0("fork")?.extract()
    };
    let child = cell.with_mut(py, fork)?;
    if child != 0 {
        return Forked(child).expect_success(py);
    }
    let again = cell.try_with_mut(py, |value| *value);
    os.call_method1("_exit", (i32::from(again.ok() != Some(1)),))?;
    unreachable!("the child has ended")
}

/// As `multiprocessing` does it.
fn processes_of_multiprocessing_work(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    static HELD: PyMutex<i32> = PyMutex::new(0);
    static FREE: PyMutex<i32> = PyMutex::new(0);
    static CELL: PyOnceLock<i32> = PyOnceLock::new();
    let work = Callback::new(|py| {
        everything_works(py);
        *FREE.lock_checked(py)? += 1;
        assert_eq!(CELL.get_or_try_init_py(py, || Ok(9))?, &9);
        assert!(HELD.lock_checked(py).is_err());
        Ok(())
    });
    let names = PyDict::new(py);
    names.set_item("work", work)?;
    let (busy, leave) = (AtomicUsize::new(0), AtomicBool::new(false));
    let stay = || {
        busy.fetch_add(1, SeqCst);
        wait_until_detached("told to leave", || leave.load(SeqCst));
    };
    let names = names.unbind();
    let results = on_threads(py, 3, |py, number| match number {
        0 => {
            let mut guard = HELD.lock(py);
            let value = &mut *guard;
            py.detach(|| {
                let _value = value;
                stay();
            });
            Ok(())
        }
        1 => {
            CELL.get_or_init(py, || {
                py.detach(stay);
                1
            });
            Ok(())
        }
        _ => {
            wait_until(py, "both are busy", || busy.load(SeqCst) == 2);
            let result = py.run(
                c"
import multiprocessing
context = multiprocessing.get_context('fork')
processes = [context.Process(target=work) for _ in range(4)]
for process in processes: process.start()
for process in processes: process.join(8)
codes = [process.exitcode for process in processes]
for process in processes: process.kill()
assert codes == [0] * 4, codes
",
                Some(names.bind(py)),
                None,
            );
            leave.store(true, SeqCst);
            result
        }
    });
    results.into_iter().collect()
}

/// Python has `os.fork` where the system has `fork`.
pub(crate) fn without_fork(py: Python<'_>) -> Option<String> {
    if cfg!(pyo3_sync_portable) {
        return Some("built as for systems that have no fork".to_owned());
    }
    let has_fork = py.import("os").and_then(|os| os.hasattr("fork"));
    (!has_fork.unwrap_or(false)).then(|| "this system has no fork".to_owned())
}

fn without_lost_owners(py: Python<'_>) -> Option<String> {
    without_fork(py).or_else(|| without_frozen_threads(py))
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_child_is_not_held_up_by_threads_it_does_not_have).unless(without_fork),
        test!(a_child_drops_no_value_of_a_lost_initializer).unless(without_fork),
        test!(a_child_wakes_nobody_who_is_not_there)
            .limit(30)
            .unless(without_fork),
        test!(abandoned_data_can_be_taken_over_on_purpose).unless(without_fork),
        test!(a_thousand_forks_with_sleepers)
            .limit(120)
            .unless(without_fork),
        test!(a_thousand_forks_with_busy_threads)
            .limit(240)
            .unless(without_fork),
        test!(read_write_locks_of_threads_that_are_gone).unless(without_fork),
        test!(borrowed_data_stay_borrowed).unless(without_fork),
        test!(a_borrow_ends_in_the_child).unless(without_fork),
        test!(a_section_that_was_fought_for_can_be_entered)
            .limit(60)
            .unless(without_fork),
        test!(a_suspended_section_of_a_cell_is_resumed_in_the_child)
            .limit(20)
            .unless(without_lost_owners),
        test!(a_suspended_section_of_an_object_is_resumed_in_the_child)
            .limit(20)
            .unless(without_lost_owners),
        test!(a_suspended_section_of_two_cells_is_resumed_in_the_child)
            .limit(20)
            .unless(without_lost_owners),
        test!(an_active_section_keeps_its_mutex_in_the_child)
            .limit(20)
            .unless(without_lost_owners),
        test!(a_child_of_a_detached_thread_attaches)
            .limit(20)
            .unless(without_lost_owners),
        test!(processes_of_multiprocessing_work)
            .limit(30)
            .unless(without_fork),
    ],
    scenarios: &[],
};
