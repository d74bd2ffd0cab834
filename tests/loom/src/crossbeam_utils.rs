//! `crossbeam_utils`, with a `Backoff` that lets loom run another thread.

pub use ::crossbeam_utils::CachePadded;

pub struct Backoff;

impl Backoff {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Backoff
    }

    pub fn snooze(&self) {
        loom::thread::yield_now();
    }
}
