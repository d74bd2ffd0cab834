//! The measuring: rounds that the subjects of a benchmark take in turn.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use pyo3::Python;

/// The benchmarks of one primitive.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) benchmarks: &'static [Benchmark],
}

/// A name, and what to run.
pub(crate) type Benchmark = (&'static str, fn(Python<'_>) -> Outcome);

/// One of those that are compared.
pub(crate) struct Subject<'a> {
    name: &'static str,
    round: Box<dyn FnMut() -> Round + 'a>,
}

/// What one round of one subject gave.
pub(crate) struct Round {
    /// For one operation.
    pub(crate) nanoseconds: f64,
    /// How it went for the threads, where they fought.
    pub(crate) fairness: Option<Fairness>,
}

#[derive(Clone, Copy)]
pub(crate) struct Fairness {
    /// The operations of the thread that did the fewest, as a part of what would be its due.
    pub(crate) least_share: f64,
    /// The longest time that a thread was kept from its next turn.
    pub(crate) longest_wait: Duration,
}

/// All rounds of one subject.
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Round>,
}

/// What came of a benchmark.
pub(crate) struct Outcome {
    pub(crate) subjects: Vec<Figures>,
    pub(crate) targets: Vec<Target>,
    /// Which figure of the rounds ratios are made of.
    pub(crate) counts: Statistic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    Minimum,
    Median,
}

/// What our figure shall be beside a peer's.
pub(crate) struct Target {
    pub(crate) peer: Peer,
    pub(crate) at_most: f64,
}

pub(crate) enum Peer {
    Named(&'static str),
    /// The fastest of them.
    Best,
    /// The clock: the ratio is the figure itself.
    Nanosecond,
}

/// What our own subject is called everywhere.
pub(crate) const OURS: &str = "pyo3-sync";
/// The loop around the operations, with nothing in it.
pub(crate) const EMPTY_LOOP: &str = "empty loop";

/// A round must be long beside the few ten nanoseconds of a look at the clock, and short beside the time for which other
/// processes leave this one alone.
const ROUND: Duration = Duration::from_millis(1);

impl<'a> Subject<'a> {
    pub(crate) fn new(name: &'static str, round: impl FnMut() -> Round + 'a) -> Self {
        Subject {
            name,
            round: Box::new(round),
        }
    }

    /// A subject whose rounds are `operation` again and again.
    pub(crate) fn repeated<R>(name: &'static str, operation: impl Fn() -> R + 'a) -> Self {
        Self::batches(name, move |size| {
            time(|| {
                for _ in 0..size {
                    black_box(operation());
                }
            })
        })
    }

    /// A subject that consumes what it works on: `operation` is done once to each of many things, made by `make` off the
    /// clock. They are few enough to stay in the first-level cache.
    pub(crate) fn consuming<T: 'a, R>(
        name: &'static str,
        make: impl Fn() -> T + 'a,
        operation: impl Fn(&T) -> &R + 'a,
    ) -> Self {
        const THINGS: u64 = 1024;
        let mut things = Vec::new();
        Self::batches(name, move |size| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..size.div_ceil(THINGS) {
                things.clear();
                things.extend((0..THINGS).map(|_| make()));
                elapsed += time(|| {
                    for thing in black_box(&things) {
                        black_box(operation(thing));
                    }
                });
            }
            elapsed.mul_f64(size as f64 / size.next_multiple_of(THINGS) as f64)
        })
    }

    /// The loop around [`repeated`](Self::repeated) operations, which every figure of theirs has in it.
    pub(crate) fn empty_loop() -> Self {
        Self::repeated(EMPTY_LOOP, || ())
    }

    /// A subject whose rounds are batches: `batch` says how long one of the given size took.
    fn batches(name: &'static str, mut batch: impl FnMut(u64) -> Duration + 'a) -> Self {
        let mut size = 1024;
        while batch(size) < ROUND {
            size *= 2;
        }
        Self::new(name, move || Round {
            nanoseconds: batch(size).as_secs_f64() * 1e9 / size as f64,
            fairness: None,
        })
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Lets the subjects take turns for that many rounds.
pub(crate) fn compare(rounds: usize, mut subjects: Vec<Subject<'_>>) -> Outcome {
    let mut figures: Vec<Figures> = subjects
        .iter()
        .map(|subject| Figures {
            name: subject.name,
            rounds: Vec::with_capacity(rounds),
        })
        .collect();
    let number = subjects.len();
    for round in 0..rounds {
        // Another one begins each time, so that none always comes behind the same neighbour.
        for turn in 0..number {
            let place = (round + turn) % number;
            figures[place].rounds.push((subjects[place].round)());
        }
    }
    Outcome {
        subjects: figures,
        targets: Vec::new(),
        counts: Statistic::Minimum,
    }
}

impl Outcome {
    /// Sets a target for the ratio of our figure to that of a peer.
    pub(crate) fn target(mut self, peer: Peer, at_most: f64) -> Self {
        self.targets.push(Target { peer, at_most });
        self
    }

    /// Makes ratios of medians.
    pub(crate) fn by_median(mut self) -> Self {
        self.counts = Statistic::Median;
        self
    }

    /// The figure that ratios are made of.
    pub(crate) fn figure(&self, subject: &Figures) -> f64 {
        match self.counts {
            Statistic::Minimum => subject.minimum(),
            Statistic::Median => subject.median(),
        }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Figures> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// The name and the figure of a peer.
    pub(crate) fn peer(&self, peer: &Peer) -> Option<(&'static str, f64)> {
        let subject = match peer {
            Peer::Nanosecond => return Some(("ns", 1.0)),
            Peer::Named(name) => self.named(name),
            Peer::Best => self
                .subjects
                .iter()
                .filter(|subject| ![OURS, EMPTY_LOOP].contains(&subject.name))
                .min_by(|a, b| self.figure(a).total_cmp(&self.figure(b))),
        };
        subject.map(|subject| (subject.name, self.figure(subject)))
    }
}

impl Figures {
    pub(crate) fn minimum(&self) -> f64 {
        self.sorted()[0]
    }

    pub(crate) fn median(&self) -> f64 {
        self.sorted()[self.rounds.len() / 2]
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.rounds.iter().map(|round| round.nanoseconds).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The worst of all rounds.
    pub(crate) fn fairness(&self) -> Option<Fairness> {
        self.rounds
            .iter()
            .filter_map(|round| round.fairness)
            .reduce(|a, b| Fairness {
                least_share: a.least_share.min(b.least_share),
                longest_wait: a.longest_wait.max(b.longest_wait),
            })
    }
}
