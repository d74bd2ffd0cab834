//! A full memory barrier on every running thread of the process: Linux's `membarrier`.
//!
//! If one thread writes A and reads B, and another writes B and reads A, both need a full barrier
//! in between. If one of them is frequent and the other rare, the rare one can ask the system to
//! execute the barrier for both, and the frequent one needs only a compiler fence. The hazard
//! pointers of Folly and the user-space RCU library do the same. The command used here exists since
//! Linux 4.14.
//!
//! With a GIL there is nothing to do. Attached threads run one at a time, and the GIL orders what
//! they do, so the barrier counts as available and the system is never called.

use core::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::Python;

use crate::python::{self, FREE_THREADED};

/// The decision whether to use the barrier: one, and final, for the whole process.
///
/// A thread that enters a slot without a fence relies on the thread that inspects the slots to
/// execute the barrier.
static DECISION: AtomicU32 = AtomicU32::new(UNDECIDED);

const UNDECIDED: u32 = 0;
const AVAILABLE: u32 = 1;
const MISSING: u32 = 2;

/// Returns whether [`for_all_threads`] works.
///
/// The answer does not change after the first call of [`prepare`] has returned. A forked child
/// inherits it.
#[inline(always)]
pub(crate) fn is_available() -> bool {
    // Relaxed: the caller has acquired something that was published after `prepare` returned.
    !FREE_THREADED || DECISION.load(Ordering::Relaxed) == AVAILABLE
}

/// Registers the process for the barrier, if the system offers it.
///
/// Must return before anything is published whose users call [`is_available`]. The first call
/// detaches, because the registration takes milliseconds if the process has several threads.
pub(crate) fn prepare(py: Python<'_>) {
    if FREE_THREADED && DECISION.load(Ordering::Relaxed) == UNDECIDED {
        python::detached(py, decide);
    }
}

/// Decides whether the barrier is available, unless another thread was faster.
fn decide() {
    let is_available = is_allowed() && membarrier(REGISTER) && membarrier(BARRIER);
    let decision = if is_available { AVAILABLE } else { MISSING };
    // Relaxed: nothing else is published. The first of several threads decides, also if a filter
    // for system calls was installed between their registrations.
    let _ = DECISION.compare_exchange(UNDECIDED, decision, Ordering::Relaxed, Ordering::Relaxed);
}

/// Returns whether the user has left the barrier switched on.
///
/// A sandbox that kills the process for an unknown system call cannot be found out by trying.
fn is_allowed() -> bool {
    std::env::var_os("PYO3_SYNC_MEMBARRIER").is_none_or(|value| value != "0")
}

/// Executes a full memory barrier on every running thread of the process.
///
/// If another thread writes, and later reads, with only a
/// [`compiler_fence`](std::sync::atomic::compiler_fence) in between, either the write is visible
/// after this call, or the read sees everything that was written before this call.
pub(crate) fn for_all_threads() {
    if !FREE_THREADED {
        return;
    }
    // A forked child inherits the registration; should it not, it registers again.
    let is_done = membarrier(BARRIER) || (membarrier(REGISTER) && membarrier(BARRIER));
    if !is_done {
        // A filter for system calls was installed later. No processor delays a store for so long.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
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
