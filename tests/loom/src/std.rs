//! `std`, with the clock, the threads and what they share replaced.

pub use ::std::*;

pub mod time {
    pub use std::time::Duration;

    pub use crate::clock::Instant;
}

pub mod sync {
    pub use std::sync::{Arc, LockResult, PoisonError};

    pub use crate::sync::{Condvar, Mutex, MutexGuard, WaitTimeoutResult};

    pub mod atomic {
        pub use std::sync::atomic::Ordering;

        pub use crate::sync::{
            AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, compiler_fence, fence,
        };
    }
}

pub mod thread {
    pub use loom::thread::yield_now;
    pub use std::thread::panicking;

    pub use crate::{
        local::{AccessError, LocalKey},
        sync::{Thread, current, park, park_timeout},
    };

    pub fn sleep(_: std::time::Duration) {
        yield_now();
    }
}
