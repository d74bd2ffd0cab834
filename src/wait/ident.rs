//! OS thread ids, which are unique among running threads.
//!
//! An OS id is cheaper to read than a [`ThreadId`](super::ThreadId), but is reused after its
//! thread has ended.

pub(crate) use system::current;

/// Returns the `threading.get_ident()` of the thread with this OS id, where it is known.
pub(crate) fn python_thread_id(os_id: u64) -> Option<u64> {
    system::MATCHES_PYTHON.then_some(os_id)
}

/// The id is the `pthread_t`, as in CPython.
#[cfg(unix)]
mod system {
    pub(super) const MATCHES_PYTHON: bool = true;

    /// Returns the calling thread's id.
    #[cfg(all(
        target_arch = "x86_64",
        target_pointer_width = "64",
        target_os = "linux",
        not(miri)
    ))]
    #[inline(always)]
    pub(crate) fn current() -> u64 {
        let ident;
        // Inlined `pthread_self`: the `pthread_t` of glibc and musl is the address of the thread
        // control block, which the ELF TLS ABI stores at `fs:0`. CPython's `_Py_ThreadId` is the
        // same.
        //
        // SAFETY:
        // - `fs` points to the control block of every running thread that has thread-local storage.
        // - The word at `fs:0` never changes, so the read is `pure`.
        unsafe {
            std::arch::asm!(
                "mov {}, qword ptr fs:[0]",
                out(reg) ident,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        ident
    }

    /// Returns the calling thread's id.
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

/// The id is that of the system, as in CPython.
#[cfg(windows)]
mod system {
    pub(super) const MATCHES_PYTHON: bool = true;

    // Saves a dependency.
    #[link(name = "kernel32")]
    unsafe extern "system" {
        safe fn GetCurrentThreadId() -> u32;
    }

    /// Returns the calling thread's id.
    #[inline]
    pub(crate) fn current() -> u64 {
        GetCurrentThreadId().into()
    }
}

/// The id is the address of a thread-local.
#[cfg(not(any(unix, windows)))]
mod system {
    pub(super) const MATCHES_PYTHON: bool = false;

    thread_local! {
        static ANCHOR: u8 = const { 0 };
    }

    /// Returns the calling thread's id.
    #[inline]
    pub(crate) fn current() -> u64 {
        ANCHOR.with(|anchor| std::ptr::from_ref(anchor).addr() as u64)
    }
}
