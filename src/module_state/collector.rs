//! Collections that [`find`](super::ModuleState::find) runs to see which modules are unreachable.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::prelude::*;

/// Time that [`Collector::run`] may spend at once.
const BURST: Duration = Duration::from_secs(1);

/// Beyond the burst, one part in this many of the time that passes may be spent on collections.
const SHARE: u32 = 50;

/// Runs the garbage collector, but spends only a small share of the time on it.
///
/// A collection is the only way to learn that a module is unreachable, and no event announces that
/// it may have become so. Without a limit, a program that calls `find` in a loop while several
/// modules are alive would do nothing but collect.
pub(super) struct Collector {
    /// When the collections so far will have taken their share of the time, in nanoseconds.
    paid_at: AtomicU64,
}

impl Collector {
    pub(super) const fn new() -> Self {
        Collector {
            paid_at: AtomicU64::new(0),
        }
    }

    /// Collects, unless too much time was spent on that recently. Returns whether it did.
    pub(super) fn run(&self, py: Python<'_>) -> bool {
        let start = nanoseconds(now());
        // Relaxed: only the number counts.
        if self.paid_at.load(Ordering::Relaxed) > start + nanoseconds(BURST * SHARE) {
            return false;
        }
        let collected = py.import("gc").and_then(|gc| gc.call_method0("collect"));
        let taken = nanoseconds(now()) - start;
        self.paid_at.fetch_max(start, Ordering::Relaxed);
        self.paid_at
            .fetch_add(taken * u64::from(SHARE), Ordering::Relaxed);
        collected.is_ok()
    }
}

/// Time since the first call.
fn now() -> Duration {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}
