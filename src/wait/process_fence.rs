//! An asymmetric pair of fences: [`light`] for the frequent side, [`heavy`] for the rare one.
//!
//! If one thread writes A and reads B, and another writes B and reads A, both need a full memory
//! barrier in between. The system can execute a full memory barrier on every running thread of the
//! process: Linux's `membarrier`, since version 4.14. The rare side then makes that call, and the
//! frequent side needs only a compiler fence. Elsewhere both fences are full barriers of their own
//! thread. Folly's hazard pointers and the user-space RCU library do the same, and use these names.
//!
//! With a GIL there is nothing to do. Attached threads run one at a time, and the GIL orders what
//! they do.

use core::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

use pyo3::Python;

use crate::python::{self, FREE_THREADED};

/// The decision whether to use `membarrier`: one, and final, for the whole process.
static DECISION: AtomicU32 = AtomicU32::new(UNDECIDED);

const UNDECIDED: u32 = 0;
const AVAILABLE: u32 = 1;
const MISSING: u32 = 2;

/// Orders a store of this thread before a later load, toward threads that call [`heavy`].
///
/// The store may be to A and the load from B, where the other thread stores to B, calls `heavy` and
/// then loads from A. One of the two threads sees the store of the other.
#[inline(always)]
pub(crate) fn light() {
    if is_light() {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Returns whether [`light`] is a compiler fence.
///
/// `false` before the first call of [`prepare`] has returned, which is why frequent callers make
/// that call in their slow path.
#[inline(always)]
pub(crate) fn is_light() -> bool {
    // Relaxed: a thread that does not see the decision yet executes a full barrier, which is always
    // enough. A thread that sees it relies on `heavy`, which sees it or makes it.
    !FREE_THREADED || DECISION.load(Ordering::Relaxed) == AVAILABLE
}

/// The counterpart of [`light`].
pub(crate) fn heavy(py: Python<'_>) {
    if !FREE_THREADED {
        return;
    }
    if prepare(py) == MISSING {
        return fence(Ordering::SeqCst);
    }
    // A forked child inherits the registration; should it not, it registers again.
    let is_done = membarrier(BARRIER) || (membarrier(REGISTER) && membarrier(BARRIER));
    if !is_done {
        // A filter for system calls was installed later. No processor delays a store for so long.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Returns the decision. Makes it if there is none, detached, because the registration takes
/// milliseconds if the process has several threads. A forked child inherits it.
pub(crate) fn prepare(py: Python<'_>) -> u32 {
    let decision = DECISION.load(Ordering::Relaxed);
    if decision != UNDECIDED || !FREE_THREADED {
        return decision;
    }
    python::detached(py, || {
        let is_available = is_allowed() && membarrier(REGISTER) && membarrier(BARRIER);
        let mine = if is_available { AVAILABLE } else { MISSING };
        // Relaxed: nothing else is published. The first of several threads decides, also if a
        // filter for system calls was installed between their registrations.
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        match DECISION.compare_exchange(UNDECIDED, mine, success, failure) {
            Ok(_) => mine,
            Err(first) => first,
        }
    })
}

/// Returns whether the user has left the barrier switched on.
///
/// A sandbox that kills the process for an unknown system call cannot be found out by trying.
fn is_allowed() -> bool {
    std::env::var_os("PYO3_SYNC_MEMBARRIER").is_none_or(|value| value != "0")
}

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED` of `linux/membarrier.h`.
const REGISTER: c_int = 1 << 4;
/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED`.
const BARRIER: c_int = 1 << 3;

#[cfg(all(target_os = "linux", not(pyo3_sync_portable)))]
fn membarrier(command: c_int) -> bool {
    // SAFETY: no preconditions: the call takes numbers, and fails for unknown ones.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Other systems have none, so the barrier is missing there.
#[cfg(any(not(target_os = "linux"), pyo3_sync_portable))]
fn membarrier(_: c_int) -> bool {
    false
}
