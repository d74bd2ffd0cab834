//! Random choices, from a stream that each thread has of its own: the seed of a round fixes what its threads set out to do, though not
//! how they are interleaved.

use std::cell::RefCell;
use std::time::Duration;

use crate::random::{Random, Stream};

thread_local! {
    static STREAM: RefCell<Stream> = RefCell::new(Random::from(0).stream(0));
}

/// What this thread chooses from here on.
pub(super) fn start(seed: u64) {
    STREAM.replace(Random::from(seed).stream(1));
}

pub(super) fn number() -> u64 {
    STREAM.with_borrow_mut(Stream::next)
}

/// A number below `limit`.
pub(super) fn below(limit: usize) -> usize {
    STREAM.with_borrow_mut(|stream| stream.below(limit))
}

/// True once in so many times.
pub(super) fn one_in(times: usize) -> bool {
    below(times) == 0
}

/// A short limit for a wait; sometimes none at all.
pub(super) fn limit() -> Duration {
    Duration::from_micros(below(3000) as u64)
}

pub(super) fn pick<T>(of: &[T]) -> &T {
    &of[below(of.len())]
}
