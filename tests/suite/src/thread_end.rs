//! Locks that are used while the thread-locals of a thread are being destroyed.

use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3_sync::{PyMutex, PyRwLock};

use crate::harness::{Sleeper, wait_until};
use crate::registry::Module;
use crate::test;

/// More than a thread's first record has room for.
const LOCKS: usize = 9;

static SEVERAL: [PyRwLock<u8>; LOCKS] = [const { PyRwLock::new(0) }; LOCKS];

/// Reads when it is dropped: two locks, out of order, one of them twice, and then all.
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        Python::attach(|py| {
            let first = SEVERAL[0].read(py);
            let second = SEVERAL[1].read(py);
            let again = SEVERAL[0].read(py);
            drop(first);
            drop(second);
            assert!(SEVERAL[0].is_locked() && SEVERAL[0].try_write(py).is_none());
            drop(again);
            let mut guards: Vec<_> = SEVERAL.iter().map(|lock| lock.read(py)).collect();
            guards.swap(0, LOCKS - 1);
        });
    }
}

/// How long it takes to write, at best.
fn time_to_write(py: Python<'_>, lock: &PyRwLock<u32>) -> Duration {
    const WRITES: u32 = 200;
    let round = || {
        let start = Instant::now();
        for _ in 0..WRITES {
            *lock.write(py) += 1;
        }
        start.elapsed() / WRITES
    };
    (0..20).map(|_| round()).min().expect("twenty rounds")
}

/// A writer looks at what each thread reads. Threads that have ended must not make that longer and longer, whenever they read.
fn reading_in_a_thread_local_destructor_leaves_nothing_behind(py: Python<'_>) -> PyResult<()> {
    thread_local! {
        static LAST: Last = const { Last };
    }
    let lock = PyRwLock::new(0);
    drop(lock.read(py));
    let before = time_to_write(py, &lock);
    py.detach(|| {
        for number in 0..2000 {
            let body = move || {
                LAST.with(|_| ()); // Destroyed after what is registered later.
                if number % 2 == 0 {
                    Python::attach(|py| drop(SEVERAL[0].read(py)));
                }
            };
            thread::spawn(body).join().expect("it ends");
        }
    });
    let after = time_to_write(py, &lock);
    assert!(
        after < 10 * before + Duration::from_micros(2),
        "{after:?} after {before:?}"
    );
    for lock in &SEVERAL {
        drop(lock.try_write(py).expect("nobody reads any more"));
    }
    Ok(())
}

/// A lock can be waited for while the thread-locals of the waiter are being destroyed.
fn a_thread_local_destructor_can_wait(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<u32> = PyMutex::new(0);
    static WAITER: Sleeper = Sleeper::new();

    struct Locks;
    impl Drop for Locks {
        fn drop(&mut self) {
            Python::attach(|py| {
                WAITER.announce();
                *MUTEX.lock(py) += 1;
            });
        }
    }
    thread_local! {
        static LOCKS: Locks = const { Locks };
    }
    let guard = MUTEX.lock(py);
    let waiter = thread::spawn(|| LOCKS.with(|_| ()));
    wait_until(py, "the destructor waits", || WAITER.is_asleep());
    drop(guard);
    py.detach(|| waiter.join()).expect("it ends");
    assert_eq!(*MUTEX.lock(py), 1);
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(reading_in_a_thread_local_destructor_leaves_nothing_behind).limit(30),
        test!(a_thread_local_destructor_can_wait),
    ],
    scenarios: &[],
};
