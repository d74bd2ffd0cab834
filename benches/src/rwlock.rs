//! `PyRwLock` beside its peers: read and written by one thread, and read by several at once.

use std::hint::black_box;

use pyo3::{Python, sync::RwLockExt};

use crate::{
    fight::{Rules, Work, compare_fights, fight},
    harness::{Group, OURS, Outcome, Peer, Round, Subject, compare},
};

pub(crate) const GROUP: Group = Group {
    name: "rwlock",
    benchmarks: &[
        ("read", read),
        ("read, in a function", read_in_function),
        ("write", write),
    ],
    free_threaded_only: &[
        ("2 threads read, beside one", scaling),
        ("reads 100 : writes 0, 2 threads", mixed::<0, 2>),
        ("reads 100 : writes 0, 4 threads", mixed::<0, 4>),
        ("reads 99 : writes 1, 2 threads", mixed::<1, 2>),
        ("reads 99 : writes 1, 4 threads", mixed::<1, 4>),
        ("reads 90 : writes 10, 2 threads", mixed::<10, 2>),
        ("reads 90 : writes 10, 4 threads", mixed::<10, 4>),
        ("reads 67 : writes 33, 2 threads", mixed::<33, 2>),
        ("reads 67 : writes 33, 4 threads", mixed::<33, 4>),
        ("write contended, 0 ns, 1 thread", contended::<0, 1>),
        ("write contended, 0 ns, 2 threads", contended::<0, 2>),
        ("write contended, 0 ns, 4 threads", contended::<0, 4>),
        ("write contended, 0 ns, 8 threads", contended::<0, 8>),
        ("write contended, 100 ns, 1 thread", contended::<100, 1>),
        ("write contended, 100 ns, 2 threads", contended::<100, 2>),
        ("write contended, 100 ns, 4 threads", contended::<100, 4>),
        ("write contended, 100 ns, 8 threads", contended::<100, 8>),
        ("write contended, 1000 ns, 1 thread", contended::<1000, 1>),
        ("write contended, 1000 ns, 2 threads", contended::<1000, 2>),
        ("write contended, 1000 ns, 4 threads", contended::<1000, 4>),
        ("write contended, 1000 ns, 8 threads", contended::<1000, 8>),
    ],
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
    "pyo3-sync, PyMutex",
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
        Subject::new(name, move || read_and_write::<L>(py, threads, 0))
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

/// Threads each of which writes `WRITES` times in a hundred turns, evenly spread, and reads in all others.
fn mixed<const WRITES: u64, const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, threads: usize, writes: u64) -> Subject<'_> {
        Subject::new(L::NAME, move || read_and_write::<L>(py, threads, writes))
    }
    compare(7, for_each_lock!(subject(py, THREADS, WRITES)))
        .by_median()
        .target(Peer::Best, 1.0)
}

fn read_and_write<L: Lock>(py: Python<'_>, threads: usize, writes: u64) -> Round {
    let lock = L::new();
    fight(py, Rules::throughput(threads), |py, fighter| {
        if fighter.turns * writes % 100 < writes {
            lock.write(py, |data| *data += 1);
        } else {
            lock.read(py, |data| *black_box(data));
        }
    })
}

/// `THREADS` threads that only write.
fn contended<const NANOSECONDS: u64, const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, nanoseconds: u64, threads: usize) -> Subject<'_> {
        let work = Work::lasting(nanoseconds);
        Subject::new(L::NAME, move || {
            let lock = L::new();
            fight(py, Rules::throughput(threads), |py, _| {
                lock.write(py, |data| work.run(data));
            })
        })
    }
    compare_fights(for_each_lock!(subject(py, NANOSECONDS, THREADS)), THREADS)
}
