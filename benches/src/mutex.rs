//! `PyMutex` beside its peers: locked by one thread, and fought for by several.

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::{Python, sync::MutexExt};

use crate::{
    FREE_THREADED,
    harness::{Fairness, Group, Outcome, Peer, Round, Subject, compare},
};

pub(crate) const GROUP: Group = Group {
    name: "mutex",
    benchmarks: if FREE_THREADED {
        &[
            ("uncontended pair", uncontended),
            ("uncontended pair, in a function", uncontended_in_function),
            ("2 threads", contended::<2>),
            ("4 threads", contended::<4>),
            ("8 threads", contended::<8>),
            ("2 threads, owner detaches", detaching::<2>),
            ("4 threads, owner detaches", detaching::<4>),
        ]
    } else {
        // With a GIL attached threads meet only where the owner detaches.
        &[
            ("uncontended pair", uncontended),
            ("uncontended pair, in a function", uncontended_in_function),
            ("2 threads, owner detaches", detaching::<2>),
            ("4 threads, owner detaches", detaching::<4>),
        ]
    },
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
    "std, our ext",
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

/// `THREADS` threads that do nothing but lock, change the data, unlock.
fn contended<const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, threads: usize) -> Subject<'_> {
        Subject::new(L::NAME, move || {
            fight::<L>(py, threads, |_py, data| change(data))
        })
    }
    compare(7, for_each_lock!(subject(py, THREADS)))
        .by_median()
        .target(Peer::Best, 1.0)
}

/// The same, while the owner leaves the interpreter with the mutex locked.
fn detaching<const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, threads: usize) -> Subject<'_> {
        Subject::new(L::NAME, move || {
            fight::<L>(py, threads, |py, data| py.detach(|| change(data)))
        })
    }
    compare(7, for_each_detaching_lock!(subject(py, THREADS)))
        .by_median()
        .target(Peer::Best, 1.0)
}

/// A handful of nanoseconds of work that the compiler cannot shorten.
#[inline(always)]
fn change(data: &mut u64) {
    for _ in 0..4 {
        *data = black_box(data.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
    }
}

/// How long a fight lasts. It is fought twice: for the throughput without looking at the clock, and for the waits with one
/// look in each turn, which takes longer than all the rest of it.
const FIGHT: Duration = Duration::from_millis(100);

fn fight<L: Lock>(
    py: Python<'_>,
    threads: usize,
    work: impl Fn(Python<'_>, &mut u64) + Sync,
) -> Round {
    let throughput = bout::<L, false>(py, threads, &work);
    let waits = bout::<L, true>(py, threads, &work);
    let turns = || throughput.fighters.iter().map(|fighter| fighter.turns);
    let all: u64 = turns().sum();
    let least = turns().min().unwrap_or(0);
    Round {
        nanoseconds: throughput.lasted.as_secs_f64() * 1e9 / all as f64,
        fairness: Some(Fairness {
            least_share: (least * threads as u64) as f64 / all as f64,
            longest_wait: waits
                .fighters
                .iter()
                .map(|fighter| fighter.longest_wait)
                .max()
                .unwrap_or_default(),
        }),
    }
}

struct Bout {
    lasted: Duration,
    fighters: Vec<Fighter>,
}

struct Fighter {
    turns: u64,
    /// From one turn to the next, or to the end. Only if timed.
    longest_wait: Duration,
}

fn bout<L: Lock, const TIMED: bool>(
    py: Python<'_>,
    threads: usize,
    work: &(impl Fn(Python<'_>, &mut u64) + Sync),
) -> Bout {
    let lock = L::new();
    let start = Barrier::new(threads + 1);
    let over = AtomicBool::new(false);
    let fighter = || {
        Python::attach(|py| {
            py.detach(|| start.wait());
            let mut fighter = Fighter {
                turns: 0,
                longest_wait: Duration::ZERO,
            };
            let mut last = Instant::now();
            let mut waited = || {
                let now = Instant::now();
                fighter.longest_wait = fighter.longest_wait.max(now - last);
                last = now;
            };
            while !over.load(Ordering::Relaxed) {
                lock.with(py, |data| {
                    if TIMED {
                        waited();
                    }
                    work(py, data);
                });
                fighter.turns += 1;
            }
            waited();
            fighter
        })
    };
    py.detach(|| {
        thread::scope(|scope| {
            let fighters: Vec<_> = (0..threads).map(|_| scope.spawn(fighter)).collect();
            start.wait();
            let begun = Instant::now();
            thread::sleep(FIGHT);
            over.store(true, Ordering::Relaxed);
            let lasted = begun.elapsed();
            let fighters = fighters.into_iter().map(|fighter| fighter.join());
            Bout {
                lasted,
                fighters: fighters
                    .collect::<Result<_, _>>()
                    .expect("no fighter panics"),
            }
        })
    })
}
