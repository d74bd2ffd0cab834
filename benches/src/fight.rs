//! Threads that fight for something: how much they get done together, how it is shared, and how long one has to wait.

use std::{
    hint::black_box,
    sync::{
        Barrier, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::Python;

use crate::harness::{Fairness, Outcome, Peer, Round, Subject, compare};

/// For how long threads fight where only their throughput is asked for.
const BOUT: Duration = Duration::from_millis(100);

/// How a fight goes.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) threads: usize,
    pub(crate) duration: Duration,
    /// Whether each thread looks at the clock in each turn, which takes longer than all the rest of a short one.
    pub(crate) timed: bool,
}

impl Rules {
    /// For what so many threads get done together.
    pub(crate) fn throughput(threads: usize) -> Self {
        Rules {
            threads,
            duration: BOUT,
            timed: false,
        }
    }
}

/// Who gets most done: the medians of seven fights, in which ours shall be as good as the best. One thread alone fights nobody.
pub(crate) fn compare_fights(subjects: Vec<Subject<'_>>, threads: usize) -> Outcome {
    let outcome = compare(7, subjects).by_median();
    if threads == 1 {
        outcome
    } else {
        outcome.target(Peer::Best, 1.0)
    }
}

/// One of the threads.
pub(crate) struct Fighter {
    pub(crate) turns: u64,
    /// When it had its last turn, if that is timed.
    last: Option<Instant>,
    longest_wait: Duration,
}

impl Fighter {
    /// Notes that this thread has got what it fights for.
    #[inline(always)]
    pub(crate) fn has_it(&mut self) {
        if let Some(last) = self.last {
            let now = Instant::now();
            self.longest_wait = self.longest_wait.max(now - last);
            self.last = Some(now);
        }
    }
}

/// Lets attached threads take turns, again and again.
pub(crate) fn fight(
    py: Python<'_>,
    rules: Rules,
    turn: impl Fn(Python<'_>, &mut Fighter) + Sync,
) -> Round {
    let start = Barrier::new(rules.threads + 1);
    let over = AtomicBool::new(false);
    let fighter = || {
        Python::attach(|py| {
            py.detach(|| start.wait());
            let mut fighter = Fighter {
                turns: 0,
                last: rules.timed.then(Instant::now),
                longest_wait: Duration::ZERO,
            };
            while !over.load(Ordering::Relaxed) {
                turn(py, &mut fighter);
                fighter.turns += 1;
            }
            // Who waits at the end has waited, too.
            fighter.has_it();
            fighter
        })
    };
    let (fighters, lasted) = py.detach(|| {
        thread::scope(|scope| {
            let fighters: Vec<_> = (0..rules.threads).map(|_| scope.spawn(fighter)).collect();
            start.wait();
            let begun = Instant::now();
            thread::sleep(rules.duration);
            over.store(true, Ordering::Relaxed);
            let lasted = begun.elapsed();
            let fighters = fighters.into_iter().map(|fighter| fighter.join());
            let fighters: Vec<Fighter> = fighters
                .collect::<Result<_, _>>()
                .expect("no fighter panics");
            (fighters, lasted)
        })
    });
    let turns = || fighters.iter().map(|fighter| fighter.turns);
    let all: u64 = turns().sum();
    let least = turns().min().unwrap_or(0);
    let waits = fighters.iter().map(|fighter| fighter.longest_wait);
    Round {
        nanoseconds: lasted.as_secs_f64() * 1e9 / all as f64,
        fairness: rules.timed.then(|| Fairness {
            least_share: (least * rules.threads as u64) as f64 / all as f64,
            longest_wait: waits.max().unwrap_or_default(),
        }),
    }
}

/// What a thread does with what it has got, for so many nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    steps: u64,
}

impl Work {
    pub(crate) fn lasting(nanoseconds: u64) -> Self {
        /// How long a step takes where nothing disturbs it.
        static STEP: LazyLock<f64> = LazyLock::new(|| {
            let steps = 100_000;
            let times = (0..100).map(|_| {
                let begun = Instant::now();
                Work { steps }.run(&mut 1);
                begun.elapsed().as_secs_f64() * 1e9 / steps as f64
            });
            times.fold(f64::INFINITY, f64::min)
        });
        Work {
            steps: (nanoseconds as f64 / *STEP) as u64,
        }
    }

    /// Changes `data` in a way that the compiler cannot shorten; once, if it is to last no time.
    #[inline(always)]
    pub(crate) fn run(self, data: &mut u64) {
        let mut changed = *data + 1;
        for _ in 0..self.steps {
            changed = black_box(changed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
        }
        *data = changed;
    }
}
