//! `PyOnceLock` beside its peers: reading a filled cell, filling one alone, and arriving at one together.

use std::{
    hint::{black_box, spin_loop},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use pyo3::{Python, sync::OnceLockExt};

use crate::harness::{Group, Outcome, Peer, Round, Subject, compare};

pub(crate) const GROUP: Group = Group {
    name: "once-lock",
    benchmarks: &[
        ("hot get", hot_get),
        ("hot get_or_init", hot_get_or_init),
        ("first initialisation", first_initialisation),
        ("2 threads arriving", arriving::<2>),
        ("4 threads arriving", arriving::<4>),
        ("8 threads arriving", arriving::<8>),
    ],
    free_threaded_only: &[],
};

/// A cell, whatever its make.
trait Cell: Send + Sync + 'static {
    const NAME: &'static str;

    fn new() -> Self;

    fn get(&self, py: Python<'_>) -> Option<&u64>;

    fn get_or_init(&self, py: Python<'_>, f: impl FnOnce() -> u64) -> &u64;
}

macro_rules! cell {
    ($subject:ident($type:ty), $name:expr, |$cell:ident, $py:ident, $f:ident| $get:expr, $get_or_init:expr) => {
        struct $subject($type);

        impl Cell for $subject {
            const NAME: &'static str = $name;

            #[inline(always)]
            fn new() -> Self {
                $subject(<$type>::new())
            }

            #[inline(always)]
            fn get(&self, $py: Python<'_>) -> Option<&u64> {
                let ($cell, _) = (&self.0, $py);
                $get
            }

            #[inline(always)]
            fn get_or_init(&self, $py: Python<'_>, $f: impl FnOnce() -> u64) -> &u64 {
                let ($cell, _) = (&self.0, $py);
                $get_or_init
            }
        }
    };
}

cell!(
    Ours(pyo3_sync::PyOnceLock<u64>),
    "pyo3-sync",
    |cell, py, f| cell.get(py),
    cell.get_or_init(py, f)
);
cell!(
    PyO3(pyo3::sync::PyOnceLock<u64>),
    "pyo3",
    |cell, py, f| cell.get(py),
    cell.get_or_init(py, f)
);
cell!(
    Std(std::sync::OnceLock<u64>),
    "std",
    |cell, py, f| cell.get(),
    cell.get_or_init(f)
);
cell!(
    StdAttached(std::sync::OnceLock<u64>),
    "std, OnceLockExt",
    |cell, py, f| cell.get(),
    cell.get_or_init_py_attached(py, f)
);
cell!(
    OnceCell(once_cell::sync::OnceCell<u64>),
    "once_cell",
    |cell, py, f| cell.get(),
    cell.get_or_init(f)
);

/// A subject for each make of cell.
macro_rules! for_each_cell {
    ($subject:ident($($argument:expr),*)) => {
        [
            $subject::<Ours>($($argument),*),
            $subject::<PyO3>($($argument),*),
            $subject::<Std>($($argument),*),
            $subject::<StdAttached>($($argument),*),
            $subject::<OnceCell>($($argument),*),
        ]
    };
}

fn filled<C: Cell>(py: Python<'_>) -> C {
    let cell = C::new();
    cell.get_or_init(py, || 1);
    cell
}

fn hot_get(py: Python<'_>) -> Outcome {
    fn subject<C: Cell>(py: Python<'_>) -> Subject<'_> {
        let cell: C = filled(py);
        Subject::repeated(C::NAME, move || {
            black_box(cell.get(py));
        })
    }
    hot(for_each_cell!(subject(py)))
}

fn hot_get_or_init(py: Python<'_>) -> Outcome {
    fn subject<C: Cell>(py: Python<'_>) -> Subject<'_> {
        let cell: C = filled(py);
        Subject::repeated(C::NAME, move || {
            black_box(cell.get_or_init(py, || black_box(1)));
        })
    }
    hot(for_each_cell!(subject(py)))
}

fn hot<const N: usize>(subjects: [Subject<'_>; N]) -> Outcome {
    let mut subjects = Vec::from(subjects);
    subjects.push(Subject::empty_loop());
    compare(31, subjects).target(Peer::Named("std"), 1.0)
}

fn first_initialisation(py: Python<'_>) -> Outcome {
    fn subject<C: Cell>(py: Python<'_>) -> Subject<'_> {
        Subject::consuming(C::NAME, C::new, move |cell| {
            cell.get_or_init(py, || black_box(1))
        })
    }
    compare(31, for_each_cell!(subject(py)).into())
        .target(Peer::Named("std"), 1.3)
        .target(Peer::Named("pyo3"), 0.25)
}

/// `THREADS` threads wait, detached, at a gate in front of an empty cell; the time from its opening until all are attached
/// and have the value.
fn arriving<const THREADS: usize>(py: Python<'_>) -> Outcome {
    fn subject<C: Cell>(py: Python<'_>, threads: usize) -> Subject<'_> {
        Subject::new(C::NAME, move || Round {
            nanoseconds: arrivals::<C>(py, threads).as_secs_f64() * 1e9,
            fairness: None,
        })
    }
    compare(15, for_each_cell!(subject(py, THREADS)).into()).target(Peer::Named("std"), 1.0)
}

/// The median of many arrivals: the minimum would be of threads that came one after the other.
fn arrivals<C: Cell>(py: Python<'_>, threads: usize) -> Duration {
    let cells: Vec<C> = (0..301).map(|_| C::new()).collect();
    let gate = Gate(AtomicUsize::new(0));
    let visit_all = || {
        Python::attach(|py| {
            let visits = cells.iter().enumerate().map(|(visited, cell)| {
                let opened = py.detach(|| {
                    gate.pass(threads * (visited + 1));
                    Instant::now()
                });
                black_box(cell.get_or_init(py, || black_box(1)));
                (opened, Instant::now())
            });
            visits.collect::<Vec<_>>()
        })
    };
    let visits: Vec<Vec<(Instant, Instant)>> = py.detach(|| {
        thread::scope(|scope| {
            let visitors: Vec<_> = (0..threads).map(|_| scope.spawn(visit_all)).collect();
            let visits = visitors.into_iter().map(|visitor| visitor.join());
            visits.collect::<Result<_, _>>().expect("no visitor panics")
        })
    });
    let mut times: Vec<Duration> = (0..cells.len())
        .map(|cell| {
            let visits = || visits.iter().map(|visits| visits[cell]);
            let opened = visits().map(|(opened, _)| opened).min();
            let done = visits().map(|(_, done)| done).max();
            done.zip(opened)
                .map_or(Duration::ZERO, |(done, opened)| done - opened)
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// A barrier that is passed again and again, and that wakes threads faster than [`std::sync::Barrier`], because they
/// have not gone to sleep. It counts the threads that came.
struct Gate(AtomicUsize);

impl Gate {
    /// Waits until that many threads have come.
    fn pass(&self, threads: usize) {
        self.0.fetch_add(1, Ordering::AcqRel);
        for turn in 1_u32.. {
            if self.0.load(Ordering::Acquire) >= threads {
                return;
            }
            if turn % 128 == 0 {
                thread::yield_now();
            } else {
                spin_loop();
            }
        }
    }
}
