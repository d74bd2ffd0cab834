//! `PyRwLock` beside its peers: read and written by one thread, and read by several at once.

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::{Python, sync::RwLockExt};

use crate::{
    FREE_THREADED,
    harness::{Group, OURS, Outcome, Peer, Round, Subject, compare},
};

pub(crate) const GROUP: Group = Group {
    name: "rwlock",
    benchmarks: if FREE_THREADED {
        &[
            ("read", read),
            ("read, in a function", read_in_function),
            ("write", write),
            ("2 threads read", scaling),
            ("2 threads, one write in 100", mixed::<2, 100>),
            ("4 threads, one write in 100", mixed::<4, 100>),
            ("2 threads, one write in 3", mixed::<2, 3>),
        ]
    } else {
        &[
            ("read", read),
            ("read, in a function", read_in_function),
            ("write", write),
        ]
    },
};

/// A read-write lock, whatever its make.
trait Lock: Send + Sync + 'static {
    const NAME: &'static str;

    fn new() -> Self;
    fn read<R>(&self, py: Python<'_>, f: impl FnOnce(&u64) -> R) -> R;
    fn write<R>(&self, py: Python<'_>, f: impl FnOnce(&mut u64) -> R) -> R;
}

macro_rules! lock {
    ($subject:ident($type:ty), $name:expr, |$lock:ident, $py:ident| $read:expr, $write:expr) => {
        /// In a cache line of its own, with the one behind it that some processors fetch along.
        #[repr(align(128))]
        struct $subject($type);

        impl Lock for $subject {
            const NAME: &'static str = $name;

            fn new() -> Self {
                $subject(<$type>::new(0))
            }

            #[inline(always)]
            fn read<R>(&self, $py: Python<'_>, f: impl FnOnce(&u64) -> R) -> R {
                let ($lock, _) = (&self.0, $py);
                let guard = $read;
                f(&guard)
            }

            #[inline(always)]
            fn write<R>(&self, $py: Python<'_>, f: impl FnOnce(&mut u64) -> R) -> R {
                let ($lock, _) = (&self.0, $py);
                let mut guard = $write;
                f(&mut guard)
            }
        }
    };
}

lock!(
    Ours(pyo3_sync::PyRwLock<u64>),
    OURS,
    |lock, py| lock.read(py),
    lock.write(py)
);
lock!(
    Std(std::sync::RwLock<u64>),
    "std",
    |lock, py| lock.read().unwrap(),
    lock.write().unwrap()
);
lock!(
    StdAttached(std::sync::RwLock<u64>),
    "std, RwLockExt",
    |lock, py| lock.read_py_attached(py).unwrap(),
    lock.write_py_attached(py).unwrap()
);
lock!(
    ParkingLot(parking_lot::RwLock<u64>),
    "parking_lot",
    |lock, py| lock.read(),
    lock.write()
);
lock!(
    OurMutex(pyo3_sync::PyMutex<u64>),
    "PyMutex",
    |lock, py| lock.lock(py),
    lock.lock(py)
);

macro_rules! for_each_lock {
    ($subject:ident($($argument:expr),*)) => {
        vec![
            $subject::<Ours>($($argument),*),
            $subject::<StdAttached>($($argument),*),
            $subject::<Std>($($argument),*),
            $subject::<ParkingLot>($($argument),*),
            $subject::<OurMutex>($($argument),*),
        ]
    };
}

fn alone(mut subjects: Vec<Subject<'_>>) -> Outcome {
    subjects.push(Subject::empty_loop());
    compare(31, subjects)
}

/// One thread reads.
fn read(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>) -> Subject<'_> {
        let lock = L::new();
        Subject::repeated(L::NAME, move || lock.read(py, |data| *black_box(data)))
    }
    alone(for_each_lock!(subject(py))).target(Peer::Named("std"), 1.0)
}

/// The same where the compiler cannot move anything out of the loop.
fn read_in_function(py: Python<'_>) -> Outcome {
    #[inline(never)]
    fn call<L: Lock>(lock: &L, py: Python<'_>) -> u64 {
        lock.read(py, |data| *black_box(data))
    }
    fn subject<L: Lock>(py: Python<'_>) -> Subject<'_> {
        let lock = L::new();
        Subject::repeated(L::NAME, move || call(&lock, py))
    }
    alone(for_each_lock!(subject(py))).target(Peer::Named("std"), 1.0)
}

/// One thread writes.
fn write(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>) -> Subject<'_> {
        let lock = L::new();
        Subject::repeated(L::NAME, move || {
            lock.write(py, |data| {
                black_box(data);
            });
        })
    }
    alone(for_each_lock!(subject(py)))
}

/// What two threads that only read do beside what one does: at least 1.5 times as much.
fn scaling(py: Python<'_>) -> Outcome {
    fn subject<'py, L: Lock>(py: Python<'py>, name: &'static str, threads: usize) -> Subject<'py> {
        Subject::new(name, move || together::<L>(py, threads, 0))
    }
    const OURS_ALONE: &str = "pyo3-sync, 1 thread";
    let subjects = vec![
        subject::<Ours>(py, OURS, 2),
        subject::<Ours>(py, OURS_ALONE, 1),
        subject::<Std>(py, "std", 2),
        subject::<Std>(py, "std, 1 thread", 1),
        subject::<ParkingLot>(py, "parking_lot", 2),
        subject::<ParkingLot>(py, "parking_lot, 1 thread", 1),
    ];
    compare(7, subjects)
        .by_median()
        .target(Peer::Named(OURS_ALONE), 1.0 / 1.5)
}

/// `THREADS` threads, each of which writes once in so many times.
fn mixed<const THREADS: usize, const ONE_IN: u64>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, threads: usize, one_in: u64) -> Subject<'_> {
        Subject::new(L::NAME, move || together::<L>(py, threads, one_in))
    }
    compare(7, for_each_lock!(subject(py, THREADS, ONE_IN))).by_median()
}

/// How long the threads go on.
const DURATION: Duration = Duration::from_millis(100);

/// `threads` threads read, and write once in `one_in` times, or never.
fn together<L: Lock>(py: Python<'_>, threads: usize, one_in: u64) -> Round {
    let (lock, start, over) = (L::new(), Barrier::new(threads + 1), AtomicBool::new(false));
    let worker = || {
        Python::attach(|py| {
            py.detach(|| start.wait());
            let mut turns = 0_u64;
            while !over.load(Ordering::Relaxed) {
                turns += 1;
                if one_in != 0 && turns % one_in == 0 {
                    lock.write(py, |data| *data += 1);
                } else {
                    lock.read(py, |data| *black_box(data));
                }
            }
            turns
        })
    };
    py.detach(|| {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            start.wait();
            let begun = Instant::now();
            thread::sleep(DURATION);
            over.store(true, Ordering::Relaxed);
            let lasted = begun.elapsed();
            let turns: u64 = workers
                .into_iter()
                .map(|worker| worker.join().expect("no worker panics"))
                .sum();
            Round {
                nanoseconds: lasted.as_secs_f64() * 1e9 / turns as f64,
                fairness: None,
            }
        })
    })
}
