//! A number for each thread that is cheap to have: no two threads that exist at the same time have the same one.
//!
//! Unlike a [`ThreadId`](super::ThreadId) it may be used again when its thread has ended. It serves where the thread is known to
//! exist, and where a function call would be felt.

/// The number of the calling thread.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#[inline(always)]
pub(crate) fn current() -> u64 {
    let ident;
    // What `pthread_self` does, without the call: the thread's control block begins with its own address, and that is the
    // `pthread_t`, in glibc and musl alike (the ELF TLS specification wants the pointer; CPython's `_Py_ThreadId` reads the same).
    // SAFETY: the segment register points to that block in every thread of a process with thread-local storage, for as long
    // as the thread runs, and its first word never changes, which is why the result may be kept (`pure`).
    unsafe {
        std::arch::asm!(
            "mov {}, qword ptr fs:[0]",
            out(reg) ident,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    ident
}

/// The number of the calling thread.
#[cfg(all(unix, not(all(target_arch = "x86_64", target_os = "linux", not(miri)))))]
#[inline]
pub(crate) fn current() -> u64 {
    // SAFETY: `pthread_self` has no preconditions.
    unsafe { libc::pthread_self() as u64 }
}

/// The number of the calling thread.
#[cfg(not(unix))]
#[inline]
pub(crate) fn current() -> u64 {
    thread_local! {
        static ANCHOR: u8 = const { 0 };
    }
    ANCHOR.with(|anchor| std::ptr::from_ref(anchor).addr() as u64)
}

/// What `threading.get_ident` gives for the thread with this number, where it can be told: CPython uses the `pthread_t`.
pub(crate) fn python_ident(number: u64) -> Option<u64> {
    cfg!(unix).then_some(number)
}
