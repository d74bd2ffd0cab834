//! `PyMutex` beside its peers: locked by one thread, and fought for by several.

pub(crate) mod fairness;
pub(crate) mod hand_over;

use std::hint::black_box;

use pyo3::{Python, sync::MutexExt};

use crate::{
    FREE_THREADED,
    fight::{Rules, Work, compare_fights, fight},
    harness::{Group, Outcome, Peer, Subject, compare},
};

pub(crate) const GROUP: Group = Group {
    name: "mutex",
    benchmarks: &[
        ("uncontended pair", uncontended),
        ("uncontended pair, in a function", uncontended_in_function),
        ("owner detaches, 0 ns, 2 threads", detaching::<0, 2>),
        ("owner detaches, 0 ns, 4 threads", detaching::<0, 4>),
        ("owner detaches, 0 ns, 8 threads", detaching::<0, 8>),
        ("owner detaches, 100 ns, 2 threads", detaching::<100, 2>),
        ("owner detaches, 100 ns, 4 threads", detaching::<100, 4>),
        ("owner detaches, 100 ns, 8 threads", detaching::<100, 8>),
        ("owner detaches, 1000 ns, 2 threads", detaching::<1000, 2>),
        ("owner detaches, 1000 ns, 4 threads", detaching::<1000, 4>),
        ("owner detaches, 1000 ns, 8 threads", detaching::<1000, 8>),
    ],
    free_threaded_only: &[
        ("contended, 0 ns, 1 thread", contended::<0, 1>),
        ("contended, 0 ns, 2 threads", contended::<0, 2>),
        ("contended, 0 ns, 4 threads", contended::<0, 4>),
        ("contended, 0 ns, 8 threads", contended::<0, 8>),
        ("contended, 100 ns, 1 thread", contended::<100, 1>),
        ("contended, 100 ns, 2 threads", contended::<100, 2>),
        ("contended, 100 ns, 4 threads", contended::<100, 4>),
        ("contended, 100 ns, 8 threads", contended::<100, 8>),
        ("contended, 1000 ns, 1 thread", contended::<1000, 1>),
        ("contended, 1000 ns, 2 threads", contended::<1000, 2>),
        ("contended, 1000 ns, 4 threads", contended::<1000, 4>),
        ("contended, 1000 ns, 8 threads", contended::<1000, 8>),
    ],
};

/// A mutex, whatever its make.
trait Lock: Send + Sync + 'static {
    const NAME: &'static str;

    fn new() -> Self;

    /// Locks, runs `f`, unlocks.
    fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&mut u64) -> R) -> R;
}

macro_rules! lock {
    ($subject:ident($type:ty), $name:expr, |$mutex:ident, $py:ident| $guard:expr) => {
        /// In a cache line of its own, with the one behind it that some processors fetch along.
        #[repr(align(128))]
        struct $subject($type);

        impl Lock for $subject {
            const NAME: &'static str = $name;

            fn new() -> Self {
                $subject(<$type>::new(0))
            }

            #[inline(always)]
            fn with<R>(&self, $py: Python<'_>, f: impl FnOnce(&mut u64) -> R) -> R {
                let ($mutex, _) = (&self.0, $py);
                let mut guard = $guard;
                f(&mut guard)
            }
        }
    };
}

lock!(Ours(pyo3_sync::PyMutex<u64>), "pyo3-sync", |mutex, py| {
    mutex.lock(py)
});
#[cfg(Py_3_13)]
lock!(
    PyO3(pyo3::sync::nonpoison::PyMutex<u64>),
    "pyo3, no poison",
    |mutex, py| mutex.lock()
);
#[cfg(Py_3_13)]
lock!(PyO3Poison(pyo3::sync::PyMutex<u64>), "pyo3", |mutex, py| {
    mutex.lock().unwrap()
});
lock!(Std(std::sync::Mutex<u64>), "std", |mutex, py| mutex
    .lock()
    .unwrap());
lock!(
    StdAttached(std::sync::Mutex<u64>),
    "std, MutexExt",
    |mutex, py| mutex.lock_py_attached(py).unwrap()
);
lock!(
    StdExt(std::sync::Mutex<u64>),
    "pyo3-sync, ext on std",
    |mutex, py| pyo3_sync::ext::MutexExt::lock_attached(mutex, py).unwrap()
);
lock!(
    ParkingLot(parking_lot::Mutex<u64>),
    "parking_lot",
    |mutex, py| mutex.lock()
);
lock!(
    ParkingLotAttached(parking_lot::Mutex<u64>),
    "parking_lot, MutexExt",
    |mutex, py| mutex.lock_py_attached(py)
);

/// A subject for each mutex whose waiting threads detach.
macro_rules! for_each_detaching_lock {
    ($subject:ident($($argument:expr),*)) => {
        vec![
            $subject::<Ours>($($argument),*),
            #[cfg(Py_3_13)]
            $subject::<PyO3>($($argument),*),
            #[cfg(Py_3_13)]
            $subject::<PyO3Poison>($($argument),*),
            $subject::<StdAttached>($($argument),*),
            $subject::<StdExt>($($argument),*),
            $subject::<ParkingLotAttached>($($argument),*),
        ]
    };
}

/// A subject for each mutex.
macro_rules! for_each_lock {
    ($subject:ident($($argument:expr),*)) => {{
        let mut subjects = for_each_detaching_lock!($subject($($argument),*));
        subjects.push($subject::<Std>($($argument),*));
        subjects.push($subject::<ParkingLot>($($argument),*));
        subjects
    }};
}

/// One thread locks and unlocks.
fn uncontended(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>) -> Subject<'_> {
        let lock = L::new();
        Subject::repeated(L::NAME, move || pair(&lock, py))
    }
    uncontended_targets(for_each_lock!(subject(py)))
}

/// The same where the compiler cannot move anything out of the loop: each pair is in a call of its own, and looks for itself for
/// what is local to the thread.
fn uncontended_in_function(py: Python<'_>) -> Outcome {
    #[inline(never)]
    fn call<L: Lock>(lock: &L, py: Python<'_>) {
        pair(lock, py);
    }
    fn subject<L: Lock>(py: Python<'_>) -> Subject<'_> {
        let lock = L::new();
        Subject::repeated(L::NAME, move || call(&lock, py))
    }
    uncontended_targets(for_each_lock!(subject(py)))
}

#[inline(always)]
fn pair<L: Lock>(lock: &L, py: Python<'_>) {
    lock.with(py, |data| {
        black_box(data);
    });
}

fn uncontended_targets(mut subjects: Vec<Subject<'_>>) -> Outcome {
    subjects.push(Subject::empty_loop());
    let outcome = compare(31, subjects);
    if FREE_THREADED {
        outcome
            .target(Peer::Named("std"), 1.1)
            .target(Peer::Named("pyo3"), 0.8)
    } else {
        outcome.target(Peer::Named("std"), 0.3)
    }
}

/// `THREADS` threads that do nothing but lock, change the data for so many nanoseconds, unlock.
fn contended<const NANOSECONDS: u64, const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, nanoseconds: u64, threads: usize) -> Subject<'_> {
        let work = Work::lasting(nanoseconds);
        Subject::new(L::NAME, move || {
            let lock = L::new();
            fight(py, Rules::throughput(threads), |py, _| {
                lock.with(py, |data| work.run(data));
            })
        })
    }
    compare_fights(for_each_lock!(subject(py, NANOSECONDS, THREADS)), THREADS)
}

/// The same, while the owner leaves the interpreter with the mutex locked. With a GIL attached threads meet only so.
fn detaching<const NANOSECONDS: u64, const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, nanoseconds: u64, threads: usize) -> Subject<'_> {
        let work = Work::lasting(nanoseconds);
        Subject::new(L::NAME, move || {
            let lock = L::new();
            fight(py, Rules::throughput(threads), |py, _| {
                lock.with(py, |data| py.detach(|| work.run(data)));
            })
        })
    }
    compare_fights(
        for_each_detaching_lock!(subject(py, NANOSECONDS, THREADS)),
        THREADS,
    )
}
