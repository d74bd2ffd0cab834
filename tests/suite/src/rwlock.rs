//! `PyRwLock`: readers together, writers alone, nobody starved, and waits that cannot end reported.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::exceptions::DeadlockError;
use pyo3_sync::{
    ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard,
    PyMutex, PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard, Wait, WaitError,
};

use crate::callback::Callback;
use crate::harness::{
    Barrier, PythonThread, Sleeper, child, finish, on_threads, on_two_threads, rounds, wait_until,
    wait_until_detached,
};
use crate::interpreter::{collect, wait_until_an_import_blocks, without_letting_go};
use crate::panics::panic_of;
use crate::random::Random;
use crate::registry::Module;
use crate::{scenario, test};

fn readers_are_together(py: Python<'_>) -> PyResult<()> {
    let (lock, all_inside) = (PyRwLock::new(7), Barrier::new(4));
    on_threads(py, 4, |py, _| {
        let guard = lock.read(py);
        all_inside.meet(py);
        assert_eq!(*guard, 7);
    });
    assert!(!lock.is_locked());
    Ok(())
}

/// Writers and readers that stay attached, and that detach with what is guarded lent to detached code.
fn writers_are_alone(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new((0_usize, 0_usize));
    on_threads(py, 6, |py, number| {
        for round in 0..400 {
            if number % 3 == 0 {
                let mut guard = lock.write(py);
                let (a, b) = &mut *guard;
                *a += 1;
                if round % 2 == 0 {
                    py.detach(thread::yield_now);
                } else {
                    thread::yield_now();
                }
                *b += 1;
            } else {
                let guard = lock.read(py);
                let data = &*guard;
                let read = || {
                    let before = *data;
                    thread::yield_now();
                    assert_eq!(before.0, before.1, "a writer is in the middle");
                    assert_eq!(before, *data, "a writer came in");
                };
                if round % 2 == 0 {
                    py.detach(read)
                } else {
                    read()
                }
            }
        }
    });
    assert_eq!(lock.into_inner(), (800, 800));
    Ok(())
}

/// A second read by a thread that reads does not wait for a writer that waits for it.
fn reading_again_does_not_wait(py: Python<'_>) -> PyResult<()> {
    let (lock, reading, writer) = (PyRwLock::new(1), AtomicBool::new(false), Sleeper::default());
    on_two_threads(
        py,
        |py| {
            let first = lock.read(py);
            reading.store(true, SeqCst);
            wait_until(py, "the writer sleeps", || {
                lock.is_write_locked() && writer.is_asleep()
            });
            assert!(lock.try_write(py).is_none());
            let second = lock.read(py);
            drop(first);
            assert_eq!(*lock.try_read(py).expect("it reads already"), *second);
        },
        |py| {
            wait_until(py, "the other reads", || reading.load(SeqCst));
            writer.announce();
            *lock.write(py) = 2;
        },
    );
    assert_eq!(lock.into_inner(), 2);
    Ok(())
}

/// Beside a permanent reader every attempt to read succeeds, and none to write (I11).
fn failed_try_write_refuses_no_reader(py: Python<'_>) -> PyResult<()> {
    let (lock, both) = (PyRwLock::new(0), Barrier::new(2));
    let reading = lock.read(py);
    let succeeded = on_threads(py, 2, |py, number| {
        both.meet(py);
        let try_once = || match number {
            0 => lock.try_read(py).is_some(),
            _ => lock.try_write(py).is_some(),
        };
        (0..ATTEMPTS).filter(|_| try_once()).count()
    });
    assert_eq!(succeeded, [ATTEMPTS, 0]);
    drop(reading);
    Ok(())
}

const ATTEMPTS: usize = 20_000;

/// Of two attempts on a lock that no other thread uses, one succeeds (I11).
fn one_of_two_attempts_succeeds(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new(0);
    let rounds = [(); 2].map(|()| AtomicUsize::new(0));
    let succeeded = on_threads(py, 2, |py, number| {
        let mut succeeded = Vec::with_capacity(ATTEMPTS);
        for round in 1..=ATTEMPTS {
            rounds[number].store(round, SeqCst);
            // Attached at first, so that the attempts meet without a GIL.
            let mut spins = 0;
            while rounds[1 - number].load(SeqCst) < round {
                spins += 1;
                if spins > 1000 {
                    py.detach(thread::yield_now);
                }
            }
            succeeded.push(match number {
                0 => lock.try_read(py).is_some(),
                _ => lock.try_write(py).is_some(),
            });
        }
        succeeded
    });
    let neither = |round: &usize| !succeeded[0][*round] && !succeeded[1][*round];
    assert_eq!((0..ATTEMPTS).find(neither), None);
    Ok(())
}

/// A writer that sleeps behind a reader is not unparked by attempts that fail (I11).
fn failed_try_read_wakes_no_writer(py: Python<'_>) -> PyResult<()> {
    const POLLS: u32 = 300;
    let (lock, writer, left) = (PyRwLock::new(0), Sleeper::default(), AtomicBool::new(false));
    let reading = AtomicBool::new(false);
    let (switches, ()) = on_two_threads(
        py,
        |py| {
            let guard = lock.read(py);
            reading.store(true, SeqCst);
            wait_until(py, "the writer sleeps", || {
                lock.is_write_locked() && writer.is_asleep()
            });
            let before = switches_of(writer.id());
            py.detach(|| {
                thread::scope(|scope| {
                    scope.spawn(|| {
                        for _ in 0..POLLS {
                            Python::attach(|py| assert!(lock.try_read(py).is_none()));
                            // The writer may have been woken.
                            wait_until_detached("the writer sleeps", || writer.is_asleep());
                        }
                    });
                });
            });
            let after = switches_of(writer.id());
            left.store(true, SeqCst);
            drop(guard);
            after - before
        },
        |py| {
            wait_until(py, "the other reads", || reading.load(SeqCst));
            writer.announce();
            *lock.write(py) = 1;
            assert!(left.load(SeqCst));
        },
    );
    // The end of its short first sleep, and of the wait before the first look for imports.
    assert!(switches <= 10, "{switches} for {POLLS} attempts");
    Ok(())
}

/// Returns how often a thread has given up its processor to wait.
fn switches_of(thread: i32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status"));
    let status = status.expect("the thread exists");
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count
        .and_then(|count| count.trim().parse().ok())
        .expect("Linux counts them")
}

fn without_proc(_: Python<'_>) -> Option<String> {
    (!cfg!(target_os = "linux")).then(|| "only Linux shows the switches of a thread".to_owned())
}

/// More locks than a record of the thread has places for.
fn many_locks_are_read_at_once(py: Python<'_>) -> PyResult<()> {
    let locks: Vec<_> = (0..40).map(PyRwLock::new).collect();
    let mut random = Random::announced().stream(0);
    for _ in 0..20 {
        let mut guards: Vec<_> = locks.iter().map(|lock| lock.read(py)).collect();
        assert!(locks.iter().all(|lock| lock.try_write(py).is_none()));
        while !guards.is_empty() {
            let guard = guards.swap_remove(random.below(guards.len()));
            let lock = &locks[*guard];
            drop(guard);
            assert!(lock.try_write(py).is_some());
        }
    }
    Ok(())
}

/// The story of a tokenizer that was published and hung on `seq[0] = seq[0]`: the guard of what is read lives until the statement ends,
/// which is after what is written.
fn writing_while_reading_is_reported(py: Python<'_>) -> PyResult<()> {
    #[pyclass(frozen)]
    struct Sequence(PyRwLock<Vec<i32>>);
    impl Sequence {
        fn get<'a>(&'a self, py: Python<'a>) -> PyRwLockReadGuard<'a, Vec<i32>> {
            self.0.read(py)
        }
        fn set(&self, py: Python<'_>, place: usize, value: i32) -> PyResult<()> {
            self.0.write_checked(py)?[place] = value;
            Ok(())
        }
    }
    let sequence = Sequence(PyRwLock::new(vec![1]));
    let error = match sequence.get(py).first() {
        Some(first) => sequence.set(py, 0, *first).unwrap_err().to_string(),
        None => unreachable!(),
    };
    assert!(
        error.contains("PyRwLock") && error.contains("rwlock.rs"),
        "{error}"
    );
    assert!(
        error.contains("for reading, and requested it for writing")
            && error.contains("copy what you need"),
        "{error}"
    );
    assert!(!sequence.0.is_locked());
    let first = sequence.get(py)[0];
    sequence.set(py, 0, first + 1)?;

    let lock = sequence.0;
    let reading = lock.read(py);
    assert!(panic_of(|| drop(lock.write(py))).contains("requested it for writing"));
    assert!(lock.try_write(py).is_none());
    assert!(lock.write_with(py, Duration::from_millis(1)).is_err());
    assert_eq!(*reading, [2]);
    drop(reading);
    let writing = lock.write(py);
    for error in [
        lock.read_checked(py).map(drop),
        lock.write_checked(py).map(drop),
    ] {
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("for writing") && text.contains("requested it again"),
            "{text}"
        );
    }
    assert!(lock.try_read(py).is_none());
    drop(writing);
    assert!(!lock.is_locked());
    Ok(())
}

/// A reader waits for a mutex whose owner wants to write: the cycle runs through that reader, and not through the two others.
fn a_cycle_through_a_reader_is_reported(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let (lock, mutex, all) = (PyRwLock::new(0), PyMutex::new(0), Barrier::new(4));
        let told = AtomicUsize::new(0);
        on_threads(py, 4, |py, number| {
            let tell = || told.fetch_add(1, SeqCst);
            match number {
                0 => {
                    let _guard = mutex.lock(py);
                    all.meet(py);
                    if lock.write_checked(py).is_err() {
                        tell();
                    }
                }
                1 => {
                    let _reading = lock.read(py);
                    all.meet(py);
                    if mutex.lock_checked(py).is_err() {
                        tell();
                    }
                }
                _ => {
                    let _reading = lock.read(py);
                    all.meet(py);
                    wait_until(py, "somebody is told", || told.load(SeqCst) == 1);
                }
            }
        });
        assert_eq!(told.into_inner(), 1);
        assert!(!lock.is_locked() && !mutex.is_locked());
    }
    Ok(())
}

/// Neither of two readers can become the writer before the other one leaves.
fn two_readers_that_want_to_write(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let (lock, both, told) = (PyRwLock::new(0), Barrier::new(2), AtomicUsize::new(0));
        on_threads(py, 2, |py, _| {
            let reading = lock.read(py);
            both.meet(py);
            // Each waits for itself in the first place.
            if lock.write_checked(py).is_err() {
                told.fetch_add(1, SeqCst);
            }
            drop(reading);
        });
        assert_eq!(told.into_inner(), 2);
        assert!(!lock.is_locked());
    }
    Ok(())
}

/// Each thread has a lock, for reading or writing, and wants the next one's, to write, or to read what is being written: exactly
/// one is told.
fn random_cycles_are_reported_once(py: Python<'_>) -> PyResult<()> {
    let mut random = Random::announced().stream(0);
    for _ in rounds(300) {
        let count = 2 + random.below(6);
        let reads: Vec<bool> = (0..count).map(|_| random.below(2) == 0).collect();
        let wants_to_read: Vec<bool> = (0..count)
            .map(|number| !reads[(number + 1) % count] && random.below(2) == 0)
            .collect();
        let locks: Vec<_> = (0..count).map(|_| PyRwLock::new(0)).collect();
        let (all, told) = (Barrier::new(count), AtomicUsize::new(0));
        on_threads(py, count, |py, number| {
            let reading = reads[number].then(|| locks[number].read(py));
            let writing = (!reads[number]).then(|| locks[number].write(py));
            all.meet(py);
            let next = &locks[(number + 1) % count];
            let asked = if wants_to_read[number] {
                next.read_checked(py).map(drop)
            } else {
                next.write_checked(py).map(drop)
            };
            if asked.is_err() {
                told.fetch_add(1, SeqCst);
            }
            drop((reading, writing));
        });
        assert_eq!(told.into_inner(), 1);
        assert!(locks.iter().all(|lock| !lock.is_locked()));
    }
    Ok(())
}

/// Two threads write, and each wants to read what the other one writes.
fn two_writers_that_want_to_read(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let (locks, both) = ([PyRwLock::new(0), PyRwLock::new(0)], Barrier::new(2));
        let told = on_threads(py, 2, |py, number| {
            let mut writing = locks[number].write(py);
            *writing += 1;
            both.meet(py);
            let asked = locks[1 - number].read_checked(py).map(|value| *value);
            drop(writing);
            asked.map_or_else(
                |error| Some(error.to_string()),
                |value| {
                    assert_eq!(value, 1);
                    None
                },
            )
        });
        let messages: Vec<String> = told.into_iter().flatten().collect();
        let [message] = &messages[..] else {
            panic!("{messages:?}")
        };
        assert!(
            message.contains("2 threads wait for each other"),
            "{message}"
        );
        assert_eq!(
            message.matches("held for writing by").count(),
            2,
            "{message}"
        );
        assert!(locks.iter().all(|lock| !lock.is_locked()));
    }
    Ok(())
}

/// A reader waits for a writer, who waits for another reader, who waits for the first one's mutex: the cycle runs through a writer
/// that does not write yet.
fn a_cycle_through_a_writer_that_waits_is_reported(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let (lock, mutex, all) = (PyRwLock::new(0), PyMutex::new(0), Barrier::new(3));
        let told = on_threads(py, 3, |py, number| match number {
            0 => {
                let _guard = mutex.lock(py);
                all.meet(py);
                // Not before: there would be nothing to wait for.
                wait_until(py, "the writer waits", || lock.is_write_locked());
                lock.read_checked(py).map(drop).err()
            }
            1 => {
                let _reading = lock.read(py);
                all.meet(py);
                mutex.lock_checked(py).map(drop).err()
            }
            _ => {
                all.meet(py);
                lock.write_checked(py).map(drop).err()
            }
        });
        let messages: Vec<String> = told.iter().flatten().map(ToString::to_string).collect();
        let [message] = &messages[..] else {
            panic!("{messages:?}")
        };
        for part in [
            "3 threads wait for each other",
            "held for reading by",
            "which waits for readers to drain",
            "for the PyMutex",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!lock.is_locked() && !mutex.is_locked());
    }
    Ok(())
}

/// One thread reads, or writes, and imports a module; another one is importing that, and its body wants to write, or to read.
fn a_cycle_through_an_import_lock_is_seen(py: Python<'_>) -> PyResult<()> {
    static LOCK: PyRwLock<i32> = PyRwLock::new(0);
    static BODY_RUNS: AtomicBool = AtomicBool::new(false);
    let folder = tempfile::tempdir()?;
    let sys = py.import("sys")?;
    sys.getattr("path")?
        .call_method1("insert", (0, folder.path().to_str()))?;
    for (module, writes) in [("wants_to_write", true), ("wants_to_read", false)] {
        BODY_RUNS.store(false, SeqCst);
        let body = "import sys\nsys.ask()\n";
        std::fs::write(folder.path().join(format!("{module}.py")), body)?;
        py.import("importlib")?.call_method0("invalidate_caches")?;
        let ask = Callback::new(move |py| {
            if !BODY_RUNS.swap(true, SeqCst) {
                wait_until_an_import_blocks(py)?;
            }
            if writes {
                drop(LOCK.write_with(py, Wait::new().interruptible())?);
            } else {
                drop(LOCK.read_with(py, Wait::new().interruptible())?);
            }
            Ok(())
        });
        sys.setattr("ask", ask)?;
        let ((), imported) = on_two_threads(
            py,
            |py| {
                let reading = writes.then(|| LOCK.read(py));
                let writing = (!writes).then(|| LOCK.write(py));
                py.detach(|| wait_until_detached("the body runs", || BODY_RUNS.load(SeqCst)));
                // It fails as the body does, or finds the module gone and runs the body again, which is told at once.
                drop(py.import(module));
                drop((reading, writing));
            },
            |py| {
                wait_until(py, "it is locked", || LOCK.is_locked());
                py.import(module).map(drop)
            },
        );
        let error = imported.expect_err("the body was told");
        assert!(error.is_instance_of::<DeadlockError>(py), "{error}");
        let message = error.value(py).to_string();
        let locked = if writes {
            "held for reading by"
        } else {
            "held for writing by"
        };
        assert!(
            message.contains("2 threads wait for each other")
                && message.contains(&format!("waits to import the module \"{module}\""))
                && message.contains(locked),
            "{message}"
        );
        assert!(!LOCK.is_locked());
    }
    Ok(())
}

/// Locks that everybody takes in the same order: nothing to report, however they meet.
fn nothing_is_reported_without_reason(py: Python<'_>) -> PyResult<()> {
    let locks = [PyRwLock::new(0), PyRwLock::new(0), PyRwLock::new(0)];
    let random = Random::announced();
    on_threads(py, 6, |py, number| {
        let mut random = random.stream(number as u64);
        for _ in 0..500 {
            let mut order = Vec::new();
            for lock in &locks {
                match random.below(3) {
                    0 => order.push((Some(lock.read(py)), None)),
                    1 => order.push((None, Some(lock.write(py)))),
                    _ => {}
                }
                if random.below(4) == 0 {
                    py.detach(thread::yield_now);
                }
            }
            drop(order);
        }
    });
    assert!(locks.iter().all(|lock| !lock.is_locked()));
    Ok(())
}

fn time_limits_leave_nothing_behind(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new(0);
    let [reading, gave_up, leave] = [(); 3].map(|()| AtomicBool::new(false));
    on_threads(py, 3, |py, number| match number {
        0 => {
            let _reading = lock.read(py);
            reading.store(true, SeqCst);
            wait_until(py, "told to leave", || leave.load(SeqCst));
        }
        1 => {
            wait_until(py, "it is read", || reading.load(SeqCst));
            let start = Instant::now();
            let limit = Duration::from_millis(200);
            assert!(lock.write_with(py, limit).is_err());
            assert!(start.elapsed() >= limit);
            assert!(lock.write_with(py, Instant::now()).is_err());
            gave_up.store(true, SeqCst);
        }
        _ => {
            // A reader behind that writer is let in when its time is up, while the first still reads. Where this thread
            // comes too late to be behind the writer it comes after it, and finds the lock as good.
            wait_until(py, "the writer waits", || {
                lock.is_write_locked() || gave_up.load(SeqCst)
            });
            drop(lock.read(py));
            wait_until(py, "the writer gave up", || gave_up.load(SeqCst));
            leave.store(true, SeqCst);
        }
    });
    let writing = lock.write(py);
    on_threads(py, 1, |py, _| {
        assert!(lock.read_with(py, Duration::from_millis(20)).is_err());
        assert!(lock.read_with(py, Instant::now()).is_err());
    });
    drop(writing);
    assert!(lock.try_write(py).is_some());
    Ok(())
}

/// A wait with a timeout ends when the lock is released, long before the timeout expires.
fn waits_with_a_timeout_end_at_the_release(py: Python<'_>) -> PyResult<()> {
    const LIMIT: Duration = Duration::from_secs(8);
    type Ask = fn(Python<'_>, &PyRwLock<i32>) -> Result<i32, WaitError>;
    let read_for: Ask = |py, lock| lock.read_with(py, LIMIT).map(|value| *value);
    let read_until: Ask = |py, lock| {
        let limit = Instant::now() + LIMIT;
        lock.read_with(py, limit).map(|value| *value)
    };
    let write_for: Ask = |py, lock| lock.write_with(py, LIMIT).map(|value| *value);
    let write_until: Ask = |py, lock| {
        let limit = Instant::now() + LIMIT;
        lock.write_with(py, limit).map(|value| *value)
    };
    let cases = [
        ("read_for behind a writer", read_for, true),
        ("read_until behind a writer", read_until, true),
        ("write_for behind a writer", write_for, true),
        ("write_until behind a writer", write_until, true),
        ("write_for behind a reader", write_for, false),
        ("write_until behind a reader", write_until, false),
    ];
    for (name, ask, behind_a_writer) in cases {
        let (lock, locked) = (PyRwLock::new(0), AtomicBool::new(false));
        let waiter = Sleeper::default();
        let (released, (value, came)) = on_two_threads(
            py,
            |py| {
                let reading = (!behind_a_writer).then(|| lock.read(py));
                let mut writing = behind_a_writer.then(|| lock.write(py));
                locked.store(true, SeqCst);
                wait_until(py, "the other waits", || {
                    waiter.is_asleep() && lock.is_write_locked()
                });
                if let Some(value) = &mut writing {
                    **value = 1;
                }
                let released = Instant::now();
                drop((reading, writing));
                released
            },
            |py| {
                wait_until(py, "it is locked", || locked.load(SeqCst));
                waiter.announce();
                let value = ask(py, &lock);
                (value, Instant::now())
            },
        );
        assert_eq!(value.ok(), Some(i32::from(behind_a_writer)), "{name}");
        let late = came.saturating_duration_since(released);
        assert!(late < LIMIT / 2, "{name} came {late:?} after the release");
        assert!(!lock.is_locked(), "{name}");
    }
    Ok(())
}

/// Readers that come and go all the time do not keep a writer out, nor writers a reader.
fn nobody_starves(py: Python<'_>) -> PyResult<()> {
    for writer in [true, false] {
        let (lock, done) = (PyRwLock::new(0_u64), AtomicBool::new(false));
        on_threads(py, 5, |py, number| {
            if number == 0 {
                let deadline = Instant::now() + Duration::from_secs(6);
                for _ in 0..20 {
                    if writer {
                        *lock.write(py) += 1;
                    } else {
                        drop(lock.read(py));
                    }
                    assert!(Instant::now() < deadline, "it starves");
                    py.detach(thread::yield_now);
                }
                done.store(true, SeqCst);
            }
            while !done.load(SeqCst) {
                if writer {
                    let data = lock.read(py);
                    py.detach(thread::yield_now);
                    drop(data);
                } else {
                    let data = lock.write(py);
                    py.detach(thread::yield_now);
                    drop(data);
                }
            }
        });
    }
    Ok(())
}

/// No writer comes in between, and a reader that waited comes in. The writer asks after that: one that waits keeps readers out.
fn downgrading(py: Python<'_>) -> PyResult<()> {
    let lock = Arc::new(PyRwLock::new(0));
    let (written, read) = (AtomicBool::new(false), AtomicBool::new(false));
    let (reader, writer) = (Sleeper::default(), Sleeper::default());
    on_threads(py, 3, |py, number| match number {
        0 => {
            let mut guard = lock.write(py);
            written.store(true, SeqCst);
            wait_until(py, "the reader waits", || reader.is_asleep());
            *guard = 1;
            let guard = PyRwLockWriteGuard::downgrade(guard);
            wait_until(py, "another one reads", || read.load(SeqCst));
            wait_until(py, "the writer waits", || {
                lock.is_write_locked() && writer.is_asleep()
            });
            assert_eq!(*guard, 1);
            drop(guard);
            let mut guard = PyRwLock::write_arc(&lock, py);
            assert!(lock.is_write_locked());
            *guard = 3;
            let guard = ArcPyRwLockWriteGuard::downgrade(guard);
            assert!(lock.try_write(py).is_none() && *lock.read(py) == 3);
            drop(guard);
        }
        1 => {
            wait_until(py, "it is written", || written.load(SeqCst));
            reader.announce();
            assert_eq!(*PyRwLock::read_arc(&lock, py), 1);
            read.store(true, SeqCst);
        }
        _ => {
            wait_until(py, "the other reader is in", || read.load(SeqCst));
            writer.announce();
            *lock.write(py) += 1;
        }
    });
    assert!(!lock.is_locked());
    assert_eq!(Arc::strong_count(&lock), 1);
    Ok(())
}

/// What was written is what is read, however many want to write.
fn nobody_writes_during_a_downgrade(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new(0_u64);
    on_threads(py, 4, |py, _| {
        for _ in 0..500 {
            let mut writing = lock.write(py);
            *writing += 1;
            let written = *writing;
            let reading = PyRwLockWriteGuard::downgrade(writing);
            py.detach(thread::yield_now);
            assert_eq!(*reading, written);
        }
    });
    assert_eq!(lock.into_inner(), 2000);
    Ok(())
}

fn guards_of_parts_and_pauses(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new((1, 2));
    assert_eq!(*PyRwLockReadGuard::map(lock.read(py), |data| &data.1), 2);
    *PyRwLockWriteGuard::map(lock.write(py), |data| &mut data.1) = 3;
    assert!(PyRwLockReadGuard::try_map(lock.read(py), |_| None::<&i32>).is_err());
    assert!(PyRwLockWriteGuard::try_map(lock.write(py), |_| None::<&mut i32>).is_err());
    assert!(!lock.is_locked());
    let mut reading = lock.read(py);
    PyRwLockReadGuard::unlocked(&mut reading, || lock.write(py).0 = 4);
    assert_eq!(*reading, (4, 3));
    // It cannot be locked again: this thread writes.
    let mut writing = None;
    let message = panic_of(|| {
        PyRwLockReadGuard::unlocked(&mut reading, || writing = Some(lock.write(py)));
    });
    assert!(message.contains("deadlock"), "{message}");
    assert!(panic_of(|| reading.0).contains("this guard holds nothing"));
    assert_eq!(format!("{reading:?}"), "<not held>");
    drop(reading);
    assert!(lock.is_write_locked());
    let mut writing = writing.expect("it was locked");
    PyRwLockWriteGuard::unlocked(&mut writing, || drop(lock.read(py)));
    let mut again = None;
    let message = panic_of(|| {
        PyRwLockWriteGuard::unlocked(&mut writing, || again = Some(lock.read(py)));
    });
    assert!(message.contains("deadlock"), "{message}");
    assert!(panic_of(|| writing.0).contains("this guard holds nothing"));
    drop(writing);
    assert!(lock.is_locked() && !lock.is_write_locked());
    drop(again);
    assert!(!lock.is_locked());
    Ok(())
}

/// Each guard for a part is the lock's still, shows the part, and can be narrowed again or not.
fn parts_of_parts(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new((1, [2, 3]));
    let Ok(pair) = PyRwLockReadGuard::try_map(lock.read(py), |data| Some(&data.1)) else {
        panic!("there is such a part")
    };
    assert_eq!(format!("{pair:?}"), "[2, 3]");
    let Err(pair) = MappedPyRwLockReadGuard::try_map(pair, |pair| pair.get(2)) else {
        panic!("there is no such part")
    };
    assert!(lock.is_locked() && lock.try_write(py).is_none());
    let Ok(second) = MappedPyRwLockReadGuard::try_map(pair, |pair| pair.get(1)) else {
        panic!("there is such a part")
    };
    assert_eq!(format!("{second} {second:?}"), "3 3");
    let second = MappedPyRwLockReadGuard::map(second, |second| second);
    assert!(*second == 3 && lock.is_locked() && !lock.is_write_locked());
    drop(second);
    assert!(!lock.is_locked());

    let Ok(pair) = PyRwLockWriteGuard::try_map(lock.write(py), |data| Some(&mut data.1)) else {
        panic!("there is such a part")
    };
    assert_eq!(format!("{pair:?}"), "[2, 3]");
    let Err(pair) = MappedPyRwLockWriteGuard::try_map(pair, |pair| pair.get_mut(2)) else {
        panic!("there is no such part")
    };
    assert!(lock.is_write_locked());
    let Ok(mut second) = MappedPyRwLockWriteGuard::try_map(pair, |pair| pair.get_mut(1)) else {
        panic!("there is such a part")
    };
    *second += 1;
    assert_eq!(format!("{second} {second:?}"), "4 4");
    let mut second = MappedPyRwLockWriteGuard::map(second, |second| second);
    *second += 1;
    assert!(lock.try_read(py).is_none());
    drop(second);
    assert!(!lock.is_locked());
    assert_eq!(lock.into_inner(), (1, [2, 5]));
    Ok(())
}

fn guards_that_own_their_lock(py: Python<'_>) -> PyResult<()> {
    let lock = Arc::new(PyRwLock::new(1));
    let reading = PyRwLock::read_arc(&lock, py);
    assert!(Arc::ptr_eq(ArcPyRwLockReadGuard::rwlock(&reading), &lock));
    assert_eq!(format!("{reading} {reading:?}"), "1 1");
    assert_eq!(Arc::strong_count(&lock), 2);
    drop(reading);
    let mut writing = PyRwLock::write_arc(&lock, py);
    assert!(Arc::ptr_eq(ArcPyRwLockWriteGuard::rwlock(&writing), &lock));
    *writing = 2;
    assert_eq!(format!("{writing} {writing:?}"), "2 2");
    // The last reference to the lock is the guard's.
    drop(lock);
    let reading = ArcPyRwLockWriteGuard::downgrade(writing);
    assert_eq!(*reading, 2);
    let lock = Arc::clone(ArcPyRwLockReadGuard::rwlock(&reading));
    drop(reading);
    assert_eq!(Arc::into_inner(lock).map(PyRwLock::into_inner), Some(2));
    Ok(())
}

fn what_every_lock_has(py: Python<'_>) -> PyResult<()> {
    let mut lock = PyRwLock::from(String::from("a"));
    assert!(PyRwLock::<String>::default().into_inner().is_empty());
    lock.get_mut().push('b');
    assert_eq!(*lock.read(py), "ab");
    lock.write(py).push('c');
    let shown = |read: bool, write: bool| {
        format!("PyRwLock {{ locked: {read}, write_locked: {write}, poisoned: false, .. }}")
    };
    assert_eq!(format!("{lock:?}"), shown(false, false));
    let reading = lock.read(py);
    assert_eq!(format!("{reading} {reading:?}"), "abc \"abc\"");
    assert_eq!(format!("{lock:?}"), shown(true, false));
    drop(reading);
    let writing = lock.write(py);
    assert_eq!(format!("{writing} {writing:?}"), "abc \"abc\"");
    // It neither waits nor attaches: a detached thread can show it too.
    py.detach(|| assert_eq!(format!("{lock:?}"), shown(true, true)));
    on_threads(py, 1, |_, _| {
        assert_eq!(format!("{lock:?}"), shown(true, true))
    });
    drop(writing);
    panic_of(|| -> () {
        let _writing = lock.write(py);
        panic!("writing")
    });
    assert!(format!("{lock:?}").contains("poisoned: true"));
    Ok(())
}

fn poison_is_told_by_writers_only(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new(0);
    panic_of(|| -> () {
        let _reading = lock.read(py);
        panic!("reading")
    });
    assert!(!lock.is_poisoned());
    panic_of(|| -> () {
        let _writing = lock.write(py);
        panic!("writing")
    });
    panic_of(|| -> () {
        let _writing = lock.write(py);
        panic!("once more")
    });
    assert!(lock.is_poisoned() && !lock.is_locked());
    drop(lock.read(py));
    let writing = lock.write(py);
    assert!(lock.is_poisoned());
    lock.clear_poison(py);
    drop(writing);
    assert!(!lock.is_poisoned());
    Ok(())
}

/// A guard that is forgotten locks for ever, and no other lock than its own.
fn forgotten_guards(py: Python<'_>) -> PyResult<()> {
    let mut place = PyRwLock::new(0);
    on_threads(py, 1, |py, _| std::mem::forget(place.read(py)));
    assert!(place.try_read(py).is_some() && place.try_write(py).is_none());
    place = PyRwLock::new(1);
    assert!(place.try_write(py).is_some());
    for _ in 0..10 {
        on_threads(py, 3, |py, _| drop(place.read(py)));
    }
    std::mem::forget(place.write(py));
    assert!(place.try_read(py).is_none() && place.read_checked(py).is_err());
    Ok(())
}

/// Invariant I2.
fn free_locks_leave_the_interpreter_alone(py: Python<'_>) -> PyResult<()> {
    let lock = Arc::new(PyRwLock::new(0));
    let (long, far) = (
        Duration::from_secs(60),
        Instant::now() + Duration::from_secs(60),
    );
    without_letting_go(py, |py| {
        for _ in 0..2000 {
            *lock.write(py) += 1;
            drop((lock.read(py), lock.read(py)));
            assert!(lock.try_read(py).is_some() && lock.try_write(py).is_some());
            *lock.write_checked(py).expect("it is free") += 1;
            *lock
                .write_with(py, Wait::new().interruptible())
                .expect("it is free") += 1;
            *lock.write_with(py, long).expect("it is free") += 1;
            *lock.write_with(py, far).expect("it is free") += 1;
            *PyRwLock::write_arc(&lock, py) += 1;
            lock.with_mut(py, |value| *value += 1);
            lock.try_write_attached(|_, value| *value += 1)
                .expect("it is free");
            drop(lock.read_checked(py).expect("it is free"));
            drop(
                lock.read_with(py, Wait::new().interruptible())
                    .expect("it is free"),
            );
            drop(lock.read_with(py, long).expect("it is free"));
            drop(lock.read_with(py, far).expect("it is free"));
            drop(PyRwLock::read_arc(&lock, py));
            lock.with(py, |value| assert_ne!(*value, 0));
            lock.try_read_attached(|_, _| ()).expect("it is free");
            drop(PyRwLockWriteGuard::downgrade(lock.write(py)));
        }
    })?;
    assert_eq!(*lock.read(py), 8 * 2000);
    Ok(())
}

/// Others attach, and the world can be stopped, while readers and writers wait.
fn waiters_hold_nobody_up(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new(0);
    let sleepers = [Sleeper::default(), Sleeper::default()];
    let locked = AtomicBool::new(false);
    on_threads(py, 3, |py, number| match number {
        0 => {
            let guard = lock.write(py);
            locked.store(true, SeqCst);
            wait_until(py, "both wait", || sleepers.iter().all(Sleeper::is_asleep));
            collect(py);
            py.detach(|| thread::scope(|scope| scope.spawn(|| Python::attach(collect)).join()))
                .expect("no panic");
            drop(guard);
        }
        _ => {
            wait_until(py, "it is locked", || locked.load(SeqCst));
            sleepers[number - 1].announce();
            if number == 1 {
                drop(lock.read(py));
            } else {
                *lock.write(py) += 1;
            }
        }
    });
    assert_eq!(lock.into_inner(), 1);
    Ok(())
}

#[pyclass(frozen)]
struct Witness {
    lock: PyRwLock<i32>,
    seen: Mutex<Option<i32>>,
}

#[pymethods]
impl Witness {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        *self.seen.lock().expect("no panic") = self.lock.traverse(&visit).copied();
        Ok(())
    }
}

fn the_collector_sees_what_nobody_writes(py: Python<'_>) -> PyResult<()> {
    let witness = Witness {
        lock: PyRwLock::new(1),
        seen: Mutex::default(),
    };
    let witness = Py::new(py, witness)?;
    let Witness { lock, seen } = witness.get();
    let sees = |py: Python<'_>| {
        collect(py);
        *seen.lock().expect("no panic")
    };
    assert_eq!(sees(py), Some(1));
    let (writer, reading) = (Sleeper::default(), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            wait_until(py, "the other reads", || reading.load(SeqCst));
            writer.announce();
            *lock.write(py) = 2;
        },
        |py| {
            let guard = lock.read(py);
            assert_eq!(sees(py), Some(1));
            reading.store(true, SeqCst);
            wait_until(py, "the writer waits", || {
                lock.is_write_locked() && writer.is_asleep()
            });
            assert_eq!(sees(py), None);
            drop(guard);
        },
    );
    let writing = lock.write(py);
    assert_eq!(sees(py), None);
    drop(writing);
    assert_eq!(sees(py), Some(2));
    Ok(())
}

fn without_a_token(py: Python<'_>) -> PyResult<()> {
    let lock = PyRwLock::new(1);
    py.detach(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                lock.try_write_attached(|_, value| *value = 2)
                    .expect("it attaches");
                assert_eq!(
                    lock.try_read_attached(|_, value| *value)
                        .expect("it attaches"),
                    2
                );
            });
        });
    });
    let _writing = lock.write(py);
    assert!(lock.try_read_attached(|_, _| ()).is_err());
    Ok(())
}

fn unsized_data(py: Python<'_>) -> PyResult<()> {
    let lock: Arc<PyRwLock<[i32]>> = Arc::new(PyRwLock::new([1, 2]));
    lock.with_mut(py, |values| values.reverse());
    assert_eq!(lock.with(py, |values| values.to_vec()), [2, 1]);
    assert!(format!("{lock:?}").starts_with("PyRwLock { locked: false"));
    Ok(())
}

/// Neither a reader nor a writer waits at exit for a writer that cannot come back.
fn waiting_at_exit_is_reported(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "rwlock::reads_at_exit")?;
    let finished = finish(py, command, Duration::from_secs(8))?;
    finished.expect_success();
    let output = &finished.output;
    assert!(
        output.contains("held for writing")
            && output.contains("by a thread that cannot run any more")
            && output.contains("shutting down"),
        "{output}"
    );
    Ok(())
}

fn reads_at_exit(py: Python<'_>) -> PyResult<()> {
    static LOCK: PyRwLock<i32> = PyRwLock::new(0);
    let hold = Callback::new(|py| {
        let mut guard = LOCK.write_checked(py)?;
        let data = &mut *guard;
        py.detach(|| {
            let _data = data;
            loop {
                thread::park();
            }
        })
    });
    let names = PyDict::new(py);
    names.set_item("hold", hold)?;
    PythonThread::start("hold()", &names)?;
    wait_until(py, "it is held", || LOCK.is_write_locked());
    Callback::new(|py| {
        assert!(LOCK.try_read(py).is_none());
        let limit = Duration::from_millis(1);
        assert!(LOCK.read_with(py, limit).is_err());
        assert!(LOCK.write_checked(py).is_err());
        assert!(LOCK.try_read_attached(|_, _| ()).is_err());
        LOCK.read_checked(py).map(drop)?;
        Ok(())
    })
    .at_finalisation(py)
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(readers_are_together),
        test!(writers_are_alone),
        test!(reading_again_does_not_wait),
        test!(failed_try_write_refuses_no_reader),
        test!(one_of_two_attempts_succeeds).limit(20),
        test!(failed_try_read_wakes_no_writer).unless(without_proc),
        test!(many_locks_are_read_at_once),
        test!(writing_while_reading_is_reported),
        test!(a_cycle_through_a_reader_is_reported),
        test!(two_readers_that_want_to_write),
        test!(random_cycles_are_reported_once).limit(30),
        test!(two_writers_that_want_to_read),
        test!(a_cycle_through_a_writer_that_waits_is_reported).limit(20),
        test!(a_cycle_through_an_import_lock_is_seen).limit(20),
        test!(nothing_is_reported_without_reason).limit(30),
        test!(time_limits_leave_nothing_behind),
        test!(waits_with_a_timeout_end_at_the_release),
        test!(nobody_starves).limit(30),
        test!(downgrading),
        test!(nobody_writes_during_a_downgrade).limit(20),
        test!(guards_of_parts_and_pauses),
        test!(parts_of_parts),
        test!(guards_that_own_their_lock),
        test!(what_every_lock_has),
        test!(poison_is_told_by_writers_only),
        test!(forgotten_guards),
        test!(free_locks_leave_the_interpreter_alone),
        test!(waiters_hold_nobody_up),
        test!(the_collector_sees_what_nobody_writes),
        test!(without_a_token),
        test!(unsized_data),
        test!(waiting_at_exit_is_reported).limit(20),
    ],
    scenarios: &[scenario!(reads_at_exit)],
};
