//! What the state machines of `pyo3-sync` run on in the models: `std`, PyO3 and the system, as far as they use them, on top of loom.
//!
//! One model runs at a time, and all its threads are coroutines of loom's on one thread of the system: so plain cells serve for what the
//! models themselves remember, and are `Sync` by decree.

mod barrier;
pub mod boxed;
pub mod clock;
pub mod crossbeam_utils;
pub mod execution;
pub mod interpreter;
pub mod libc;
pub mod local;
pub mod pyo3;
pub mod std;
mod sync;

pub use execution::{JoinHandle, model, spawn, until};
pub use sync::asleep;
