//! Who gets a mutex how often, and how long somebody waits for it, in fights of two seconds.

use std::time::Duration;

use pyo3::Python;

#[cfg(Py_3_13)]
use super::PyO3;
use super::{Lock, Ours, ParkingLotAttached, StdAttached};
use crate::{
    FREE_THREADED,
    fight::{Rules, Work, fight},
    harness::{Group, Outcome, Peer, Quantity, Subject, compare},
};

pub(crate) const GROUP: Group = Group {
    name: "fairness",
    benchmarks: &[
        ("2 seconds, 2 threads", two_seconds::<2>),
        ("2 seconds, 4 threads", two_seconds::<4>),
        ("2 seconds, 8 threads", two_seconds::<8>),
    ],
    free_threaded_only: &[],
};

/// With a GIL the owner detaches, or nobody would ever meet anybody.
fn two_seconds<const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<L: Lock>(py: Python<'_>, threads: usize) -> Subject<'_> {
        let work = Work::lasting(0);
        let rules = Rules {
            threads,
            duration: Duration::from_secs(2),
            timed: true,
        };
        Subject::new(L::NAME, move || {
            let lock = L::new();
            fight(py, rules, |py, fighter| {
                lock.with(py, |data| {
                    fighter.has_it();
                    if FREE_THREADED {
                        work.run(data);
                    } else {
                        py.detach(|| work.run(data));
                    }
                });
            })
        })
    }
    let subjects = vec![
        subject::<Ours>(py, THREADS),
        #[cfg(Py_3_13)]
        subject::<PyO3>(py, THREADS),
        subject::<StdAttached>(py, THREADS),
        subject::<ParkingLotAttached>(py, THREADS),
    ];
    compare(7, subjects).by_median().target_for(
        Quantity::LongestWait,
        Peer::Named(ParkingLotAttached::NAME),
        5.0,
    )
}
