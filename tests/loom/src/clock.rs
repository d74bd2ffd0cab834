//! Time: it goes on by a tick whenever somebody looks, and by as much as somebody sleeps.

use std::{cell::Cell, ops::Add, time::Duration};

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static TICK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(crate) fn start(tick: Duration) {
    NOW.set(Duration::ZERO);
    TICK.set(tick);
}

/// Lets time pass.
pub fn advance(by: Duration) {
    NOW.set(NOW.get() + by);
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        advance(TICK.get());
        Instant(NOW.get())
    }

    pub fn elapsed(&self) -> Duration {
        Instant::now().0 - self.0
    }

    pub fn checked_add(self, by: Duration) -> Option<Self> {
        self.0.checked_add(by).map(Instant)
    }

    pub fn saturating_duration_since(self, other: Self) -> Duration {
        self.0.saturating_sub(other.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, by: Duration) -> Self {
        Instant(self.0 + by)
    }
}
