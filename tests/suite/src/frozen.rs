//! Threads that are frozen in a signal handler: being unparked has no effect until they are thawed.
//!
//! A waiter that CPython made the owner of a mutex attaches in an instant. A frozen one stays the
//! detached owner for as long as a test needs it.

use pyo3::prelude::*;

use crate::harness::is_free_threaded;

/// For tests with frozen threads, which are about waiting for critical sections.
pub(crate) fn without_frozen_threads(py: Python<'_>) -> Option<String> {
    if !is_free_threaded(py) {
        return Some("where there is a GIL no thread waits for a section".to_owned());
    }
    (!cfg!(target_os = "linux")).then(|| "threads are frozen on Linux only".to_owned())
}

#[cfg(target_os = "linux")]
pub(crate) use on_linux::{Freezable, thaw};

#[cfg(target_os = "linux")]
mod on_linux {
    use std::cell::Cell;
    use std::mem;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use crate::harness::Sleeper;

    /// A thread that can be frozen while it is parked.
    pub(crate) struct Freezable {
        sleeper: Sleeper,
        thread: OnceLock<libc::pthread_t>,
        /// The number of [`THAWS`] that the thread is frozen until.
        until: AtomicUsize,
        is_frozen: AtomicBool,
    }

    static THAWS: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// The calling thread, for the handler.
        static CURRENT: Cell<*const Freezable> = const { Cell::new(ptr::null()) };
    }

    impl Freezable {
        pub(crate) const fn new() -> Self {
            Freezable {
                sleeper: Sleeper::new(),
                thread: OnceLock::new(),
                until: AtomicUsize::new(0),
                is_frozen: AtomicBool::new(false),
            }
        }

        /// Must be called by the thread itself, right before it waits, and `self` must outlive it.
        pub(crate) fn announce(&self) {
            CURRENT.set(self);
            // SAFETY: the structure is zero where it is not set, as its defaults are; the handler
            // uses atomics and system calls only.
            unsafe {
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = freeze as extern "C" fn(libc::c_int) as usize;
                assert_eq!(libc::sigaction(libc::SIGUSR2, &action, ptr::null_mut()), 0);
            }
            // SAFETY: no preconditions.
            let thread = unsafe { libc::pthread_self() };
            self.thread.set(thread).expect("a thread is announced once");
            self.sleeper.announce();
        }

        pub(crate) fn is_announced(&self) -> bool {
            self.sleeper.is_announced()
        }

        pub(crate) fn is_parked(&self) -> bool {
            self.sleeper.is_asleep()
        }

        /// Freezes the thread, which was announced and has not ended, until the next [`thaw`].
        pub(crate) fn freeze(&self) {
            self.until.store(THAWS.load(SeqCst) + 1, SeqCst);
            let thread = *self.thread.get().expect("it was announced");
            // SAFETY: the thread exists.
            assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR2) }, 0);
        }

        pub(crate) fn is_frozen(&self) -> bool {
            self.is_frozen.load(SeqCst)
        }
    }

    extern "C" fn freeze(_: libc::c_int) {
        // SAFETY: set by `announce`, before the signal was sent, and alive.
        let this = unsafe { &*CURRENT.get() };
        this.is_frozen.store(true, SeqCst);
        while THAWS.load(SeqCst) < this.until.load(SeqCst) {
            // SAFETY: no preconditions.
            unsafe { libc::usleep(200) };
        }
        this.is_frozen.store(false, SeqCst);
    }

    /// Thaws all frozen threads.
    pub(crate) fn thaw() {
        THAWS.fetch_add(1, SeqCst);
    }
}

/// Other systems do not run the tests.
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{Freezable, thaw};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    pub(crate) struct Freezable;

    impl Freezable {
        pub(crate) const fn new() -> Self {
            Freezable
        }

        pub(crate) fn announce(&self) {}

        pub(crate) fn is_announced(&self) -> bool {
            true
        }

        pub(crate) fn is_parked(&self) -> bool {
            true
        }

        pub(crate) fn freeze(&self) {}

        pub(crate) fn is_frozen(&self) -> bool {
            true
        }
    }

    pub(crate) fn thaw() {}
}
