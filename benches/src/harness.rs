//! The measuring: rounds that the subjects of a benchmark take in turn.
//!
//! # Why neither Criterion nor divan
//!
//! They measure one function after the other, for seconds each, and all that we want is ratios of functions. The same
//! `std::sync::Mutex`, locked and unlocked under eight names on a machine with other work, came out of Criterion 0.5 (5 seconds each) as 9.6 to
//! 12.9 ns: ratios of up to 1.35 where there is no difference. The rounds here, which the eight take in turn, gave minima of 9.41 to 9.47,
//! 9.44 to 9.50 and 9.18 to 9.50 ns in three runs of a quarter of a second: at most 1.035. Targets of 3 per cent can be judged so, and not with
//! Criterion. Its comparison with an earlier run has the same weakness, and we do not use it.
//!
//! Besides, both want to be the program: ours is a module in somebody else's. And a fight of threads is not a function that is called many
//! times: it has a throughput, shares and waits, which they have no place for.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use pyo3::Python;

use crate::FREE_THREADED;

/// The benchmarks of one primitive.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) benchmarks: &'static [Benchmark],
    /// Those in which attached threads meet, which with a GIL they never do.
    pub(crate) free_threaded_only: &'static [Benchmark],
}

impl Group {
    /// Those that this build has.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Benchmark> {
        let others: &[Benchmark] = if FREE_THREADED {
            self.free_threaded_only
        } else {
            &[]
        };
        self.benchmarks.iter().chain(others)
    }
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
    pub(crate) quantity: Quantity,
    pub(crate) peer: Peer,
    pub(crate) at_most: f64,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// The time that an operation takes.
    Time,
    /// The longest wait of any thread in a fight.
    LongestWait,
}

pub(crate) enum Peer {
    Named(&'static str),
    /// The fastest of them.
    Best,
    /// The clock: the ratio is the figure itself.
    Nanosecond,
}

/// What our own subject is called everywhere. Further ones of ours have names that begin so: they are no peers.
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
    pub(crate) fn batches(name: &'static str, mut batch: impl FnMut(u64) -> Duration + 'a) -> Self {
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
    pub(crate) fn target(self, peer: Peer, at_most: f64) -> Self {
        self.target_for(Quantity::Time, peer, at_most)
    }

    /// Sets a target for something else than the time.
    pub(crate) fn target_for(mut self, quantity: Quantity, peer: Peer, at_most: f64) -> Self {
        self.targets.push(Target {
            quantity,
            peer,
            at_most,
        });
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

    /// The ratio that a target is about, and the name of the peer; nothing, if this build does not have the peer.
    pub(crate) fn reached(&self, target: &Target) -> Option<(&'static str, f64)> {
        let figure = |subject: &Figures| match target.quantity {
            Quantity::Time => Some(self.figure(subject)),
            Quantity::LongestWait => Some(subject.fairness()?.longest_wait.as_secs_f64()),
        };
        let (name, theirs) = match target.peer {
            Peer::Nanosecond => ("ns", 1.0),
            Peer::Named(name) => (name, figure(self.named(name)?)?),
            Peer::Best => {
                let peers = self.subjects.iter().filter(|subject| subject.is_peer());
                peers
                    .filter_map(|peer| Some((peer.name, figure(peer)?)))
                    .min_by(|a, b| a.1.total_cmp(&b.1))?
            }
        };
        Some((name, figure(self.named(OURS)?)? / theirs))
    }
}

impl Figures {
    fn is_peer(&self) -> bool {
        !self.name.starts_with(OURS) && self.name != EMPTY_LOOP
    }

    pub(crate) fn minimum(&self) -> f64 {
        sorted(self.nanoseconds())[0]
    }

    pub(crate) fn median(&self) -> f64 {
        median(self.nanoseconds())
    }

    fn nanoseconds(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|round| round.nanoseconds)
    }

    /// The medians of all rounds: the worst of them tells how busy the machine was with something else.
    pub(crate) fn fairness(&self) -> Option<Fairness> {
        let rounds = || self.rounds.iter().filter_map(|round| round.fairness);
        rounds().next()?;
        Some(Fairness {
            least_share: median(rounds().map(|fairness| fairness.least_share)),
            longest_wait: Duration::from_secs_f64(median(
                rounds().map(|fairness| fairness.longest_wait.as_secs_f64()),
            )),
        })
    }
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let sorted = sorted(numbers);
    sorted[sorted.len() / 2]
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}
