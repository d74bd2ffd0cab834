//! How long it takes from the unlocking of a mutex until a thread that waits for it runs.
//!
//! The waiters of our mutex and of the peers' with `MutexExt` are attached when they have it. Those called "in detach" are not: that is
//! what an author gets who locks where there is no token. They need not attach, but may not touch Python either.

use std::{
    hint::spin_loop,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use pyo3::Python;

#[cfg(Py_3_13)]
use super::PyO3;
use super::{Lock, Ours, ParkingLot, ParkingLotAttached, Std, StdAttached};
use crate::harness::{Group, Outcome, Round, Subject, compare};

pub(crate) const GROUP: Group = Group {
    name: "hand-over",
    benchmarks: &[
        ("the waiter sleeps", to_a_sleeper),
        ("the waiter has just come", to_a_newcomer),
    ],
    free_threaded_only: &[],
};

/// Long after a waiter has given up looking at the mutex.
const ASLEEP: Duration = Duration::from_micros(500);
/// Long enough to arrive.
const JUST_COME: Duration = Duration::from_micros(20);

fn to_a_sleeper(py: Python<'_>) -> Outcome {
    hand_over(py, ASLEEP)
}

fn to_a_newcomer(py: Python<'_>) -> Outcome {
    hand_over(py, JUST_COME)
}

fn hand_over(py: Python<'_>, held: Duration) -> Outcome {
    fn subject<'py, L: Lock>(
        py: Python<'py>,
        held: Duration,
        name: &'static str,
        wait: fn(Python<'_>, &L) -> Instant,
    ) -> Subject<'py> {
        Subject::new(name, move || hand_overs(py, held, wait))
    }
    fn attached<L: Lock>(py: Python<'_>, held: Duration) -> Subject<'_> {
        subject::<L>(py, held, L::NAME, |py, lock| {
            lock.with(py, |_| Instant::now())
        })
    }
    fn std_detached(py: Python<'_>, lock: &Std) -> Instant {
        py.detach(|| {
            let _guard = lock.0.lock().expect("nobody panics");
            Instant::now()
        })
    }
    fn parking_lot_detached(py: Python<'_>, lock: &ParkingLot) -> Instant {
        py.detach(|| {
            let _guard = lock.0.lock();
            Instant::now()
        })
    }
    let subjects = vec![
        attached::<Ours>(py, held),
        #[cfg(Py_3_13)]
        attached::<PyO3>(py, held),
        attached::<StdAttached>(py, held),
        attached::<ParkingLotAttached>(py, held),
        subject(py, held, "std, in detach", std_detached),
        subject(py, held, "parking_lot, in detach", parking_lot_detached),
    ];
    compare(7, subjects).by_median()
}

/// So many in a round, whose median is its figure.
const HAND_OVERS: usize = 51;

/// The owner is detached while it works, and unlocks attached. Then it detaches, without which nobody could run where there is a GIL.
fn hand_overs<L: Lock>(
    py: Python<'_>,
    held: Duration,
    wait: fn(Python<'_>, &L) -> Instant,
) -> Round {
    let (lock, meeting) = (L::new(), Barrier::new(2));
    let meet = |py: Python<'_>| {
        py.detach(|| meeting.wait());
    };
    let owner = || {
        Python::attach(|py| {
            let release = |_| {
                let released = lock.with(py, |_| {
                    py.detach(|| {
                        meeting.wait();
                        work(held);
                    });
                    Instant::now()
                });
                meet(py);
                released
            };
            (0..HAND_OVERS).map(release).collect::<Vec<_>>()
        })
    };
    let waiter = || {
        Python::attach(|py| {
            let get = |_| {
                meet(py);
                let has_it = wait(py, &lock);
                meet(py);
                has_it
            };
            (0..HAND_OVERS).map(get).collect::<Vec<_>>()
        })
    };
    let (released, had) = py.detach(|| {
        thread::scope(|scope| {
            let threads = (scope.spawn(owner), scope.spawn(waiter));
            let released = threads.0.join().expect("the owner does not panic");
            (
                released,
                threads.1.join().expect("the waiter does not panic"),
            )
        })
    });
    let hand_overs = released.into_iter().zip(had);
    let mut latencies: Vec<Duration> = hand_overs
        .map(|(released, had)| had.saturating_duration_since(released))
        .collect();
    latencies.sort();
    Round {
        nanoseconds: latencies[HAND_OVERS / 2].as_secs_f64() * 1e9,
        fairness: None,
    }
}

/// Keeps the processor for that long, and leaves the other one to the waiter.
fn work(duration: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        spin_loop();
    }
}
