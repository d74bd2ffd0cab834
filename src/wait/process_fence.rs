//! A memory fence that one thread makes for all threads of the process.
//!
//! Where two threads must not pass each other (one writes A and reads B, the other writes B and reads A) both need a fence between the
//! two. If one of them comes often and the other seldom, the system can make both: for the seldom one it interrupts all processors
//! that run threads of the process, and waits until each has done what it had begun. The frequent one then needs only to keep its
//! order in the program. That is Linux's `membarrier` (Mathieu Desnoyers, in version 4.14 for the form that is used here), which the
//! hazard pointers of Folly and the user-space RCU library rest on in the same way.

use core::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, and only after the process is registered for it. Not on all systems, nor in all sandboxes.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Whether [`for_all_threads`] works. Once it does, it does for ever, in the children of a fork too.
#[inline(always)]
pub(crate) fn is_available() -> bool {
    // Relaxed: who announces something without a fence has found out by way of something that was published after `prepare`.
    AVAILABLE.load(Ordering::Relaxed)
}

/// Makes [`for_all_threads`] work, if this system can do that.
pub(crate) fn prepare() {
    if !is_available() && membarrier(REGISTER) && membarrier(FENCE) {
        AVAILABLE.store(true, Ordering::Relaxed);
    }
}

/// Lets every thread of the process be seen to have done, in all memory, what it has begun.
///
/// Of a write and a later read by another thread with nothing but [`compiler_fence`](std::sync::atomic::compiler_fence) in between,
/// either the write is seen after this, or the read sees all that was written before this.
pub(crate) fn for_all_threads() {
    // The child of a fork inherits the registration; should it not, it is made again.
    let is_done = membarrier(FENCE) || (membarrier(REGISTER) && membarrier(FENCE));
    if !is_done {
        // A filter for system calls may have been set up since. No processor keeps what it has stored to itself for so long.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED` and `MEMBARRIER_CMD_PRIVATE_EXPEDITED` of `linux/membarrier.h`.
const REGISTER: c_int = 1 << 4;
const FENCE: c_int = 1 << 3;

#[cfg(all(target_os = "linux", not(pyo3_sync_portable)))]
fn membarrier(command: c_int) -> bool {
    // SAFETY: the call has no preconditions: it takes numbers only, and fails for those that it does not know.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Other systems have none, so that the fence never becomes available.
#[cfg(any(not(target_os = "linux"), pyo3_sync_portable))]
fn membarrier(_: c_int) -> bool {
    false
}
