//! Random numbers that can be had again: the seed is printed, and `PYO3_SYNC_SEED` sets it.

use std::env;
use std::hash::{BuildHasher, RandomState};

/// A source of independent streams, one for each thread.
pub(crate) struct Random {
    seed: u64,
}

impl Random {
    /// With a fresh seed, or the one that the environment names; a failing test shows what was printed.
    pub(crate) fn announced() -> Self {
        let seed = env::var("PYO3_SYNC_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("PYO3_SYNC_SEED={seed}");
        Self { seed }
    }

    pub(crate) fn stream(&self, number: u64) -> Stream {
        Stream {
            state: self.seed ^ number.wrapping_mul(0xA24B_AED4_963E_E407),
        }
    }
}

impl From<u64> for Random {
    fn from(seed: u64) -> Self {
        Self { seed }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Stream {
    state: u64,
}

impl Stream {
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
