//! A number for each thread that is cheap to have: no two threads that exist at the same time have the same one.
//!
//! Unlike a [`ThreadId`](super::ThreadId) it may be used again when its thread has ended. It serves where the thread is known to
//! exist, and where a function call would be felt.

pub(crate) use system::current;

/// What `threading.get_ident` gives for the thread with this number, where it can be told.
pub(crate) fn python_ident(number: u64) -> Option<u64> {
    system::IS_PYTHONS.then_some(number)
}

/// CPython uses the `pthread_t`.
#[cfg(unix)]
mod system {
    pub(super) const IS_PYTHONS: bool = true;

    /// The number of the calling thread.
    #[cfg(all(
        target_arch = "x86_64",
        target_pointer_width = "64",
        target_os = "linux",
        not(miri)
    ))]
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
    #[cfg(not(all(
        target_arch = "x86_64",
        target_pointer_width = "64",
        target_os = "linux",
        not(miri)
    )))]
    #[inline]
    pub(crate) fn current() -> u64 {
        // SAFETY: `pthread_self` has no preconditions.
        unsafe { libc::pthread_self() as u64 }
    }
}

/// CPython uses the number that the system has for the thread.
#[cfg(windows)]
mod system {
    pub(super) const IS_PYTHONS: bool = true;

    // Declared here, since a crate that does so would be one more to depend on for a single function.
    #[link(name = "kernel32")]
    unsafe extern "system" {
        safe fn GetCurrentThreadId() -> u32;
    }

    /// The number of the calling thread.
    #[inline]
    pub(crate) fn current() -> u64 {
        GetCurrentThreadId().into()
    }
}

/// A thread has its thread-locals where no other has anything, and what Python uses is not known.
#[cfg(not(any(unix, windows)))]
mod system {
    pub(super) const IS_PYTHONS: bool = false;

    thread_local! {
        static ANCHOR: u8 = const { 0 };
    }

    /// The number of the calling thread.
    #[inline]
    pub(crate) fn current() -> u64 {
        ANCHOR.with(|anchor| std::ptr::from_ref(anchor).addr() as u64)
    }
}
