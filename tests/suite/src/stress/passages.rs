//! Threads in the middle of their first attachment, or of their end: nobody forks beside them.
//!
//! What CPython does there it does without being attached, so that a fork does not wait for it, under locks that the child would then wait for for
//! ever. CPython 3.11 makes the state of a new thread under one (see `Forked::running`). Without a GIL, 3.14 and 3.15 give back the memory of a
//! thread when the system destroys its thread-local data; a thread that reads the list of such memory is counted, and in the child, where a
//! thread that is gone is counted for ever, threads that end spin until the count is zero (`_mi_abandoned_await_readers`).

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3_sync::ext::{CondvarExt, MutexExt};

/// How long one who forks waits for the passages of others. Longer ones may be waiting for what it holds.
const PATIENCE: Duration = Duration::from_millis(20);

static PASSING: Mutex<usize> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

/// A passage begins, of a thread that is not attached.
pub(super) fn begin() {
    *PASSING.lock().expect("no panic under it") += 1;
}

/// A passage is over: of a thread that was joined.
pub(super) fn over() {
    *PASSING.lock().expect("no panic under it") -= 1;
    CHANGED.notify_all();
}

/// A passage is over: of this thread, which is attached now.
pub(super) fn over_attached(py: Python<'_>) {
    *PASSING.lock_attached(py).expect("no panic under it") -= 1;
    CHANGED.notify_all();
}

/// Runs `fork` while no thread is in a passage, or not at all.
pub(super) fn while_none<R>(py: Python<'_>, fork: impl FnOnce() -> R) -> Option<R> {
    let passing = PASSING.lock_attached(py).expect("no panic under it");
    let waited = CHANGED
        .wait_timeout_while_attached(py, &PASSING, passing, PATIENCE, |passing| *passing != 0);
    let (passing, _) = waited.expect("no panic under it");
    (*passing == 0).then(fork)
}
