//! What `fork` would break, made whole again in the child (invariant I7).
//!
//! The child has one thread, a copy of the one that forked, and a copy of all memory as it was at that moment: with
//! queues of threads that do not exist, behind locks that such threads may hold. Three handlers see to that:
//!
//! - *before* the fork, the forking thread takes the lock of every queue, of the graph, of the
//!   registry and of the list of reader records. What they guard is then consistent, and the locks
//!   belong to the one thread of the child.
//! - *after* it the parent releases them: its sleepers have noticed nothing.
//! - The child forgets all sleepers, edges and threads but its own, notes that all older ids are of threads that are
//!   gone ([`ThreadId::is_gone`]), and releases the locks.
//!
//! In the list of reader records ([`readers`](super::readers)) the child keeps those of gone
//! threads that read. They are reported to writers: a reader may have lent the data to the
//! surviving thread.
//!
//! The words of the locks stay as they are. A primitive that finds an owner that is gone knows what to do: a cell starts
//! over, a mutex reports, and a read-write lock too, unless that owner only waited for readers to leave
//! ([`Pending`](super::Pending)).
//!
//! Nobody who holds one of the locks taken here waits for anything, let alone for the interpreter, so the handlers wait
//! for a few instructions of others at most; and nobody holds two of them, so their order does not matter. The child
//! frees memory: C libraries keep their allocator whole across a fork, and Python relies on it before we do.

use std::sync::atomic::{AtomicU32, Ordering};

mod handlers {
    use std::{
        cell::UnsafeCell,
        sync::{
            MutexGuard,
            atomic::{AtomicBool, Ordering},
        },
    };

    use crate::wait::{ThreadId, graph, park, readers, threads};

    struct Held {
        queues: Vec<MutexGuard<'static, park::Queue>>,
        graph: MutexGuard<'static, graph::Graph>,
        registry: MutexGuard<'static, Option<threads::Registry>>,
        records: MutexGuard<'static, readers::List>,
    }

    /// What the forking thread holds between the handlers.
    struct Slot(UnsafeCell<Option<Held>>);

    // SAFETY: only the handlers use it, between which the forking thread holds locks that keep a second fork from
    // coming as far as this.
    unsafe impl Sync for Slot {}

    static HELD: Slot = Slot(UnsafeCell::new(None));

    pub(in crate::wait) fn install_handlers() {
        // No `Once`: a fork while it runs would leave the child with one that runs for ever. Relaxed: the threads that come
        // here meanwhile need nothing of it.
        static INSTALLED: AtomicBool = AtomicBool::new(false);
        if INSTALLED.load(Ordering::Relaxed) || INSTALLED.swap(true, Ordering::Relaxed) {
            return;
        }
        // SAFETY: the functions have the right type and stay where they are: an extension is never unloaded.
        let result =
            unsafe { super::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
        assert_eq!(result, 0, "out of memory for fork handlers");
    }

    extern "C" fn prepare() {
        let registry = threads::lock_registry();
        let graph = graph::lock_graph();
        let queues = park::lock_all_queues();
        let records = readers::lock_list();
        // SAFETY: all locks are held, so no other thread is between the handlers.
        let slot = unsafe { &mut *HELD.0.get() };
        *slot = Some(Held {
            queues,
            graph,
            registry,
            records,
        });
    }

    fn take_held() -> Option<Held> {
        // SAFETY: called by the thread that ran `prepare`, before it releases the locks.
        unsafe { &mut *HELD.0.get() }.take()
    }

    extern "C" fn in_parent() {
        drop(take_held());
    }

    extern "C" fn in_child() {
        let Some(mut held) = take_held() else { return };
        let generation = super::GENERATION.load(Ordering::Relaxed);
        if generation != super::NO_HANDLERS {
            // One that is not reached stays below `NO_HANDLERS`.
            let next = (generation + 1).min(super::NO_HANDLERS - 1);
            super::GENERATION.store(next, Ordering::Relaxed);
        }
        ThreadId::forget_all_but_current();
        for queue in &mut held.queues {
            queue.clear();
        }
        held.graph.clear();
        if let Some(registry) = held.registry.as_mut() {
            registry.retain(|id, _| !id.is_gone());
        }
        held.records.forget_gone_threads();
    }
}

/// Fork depth of this process since the handlers were installed; [`NO_HANDLERS`] before.
static GENERATION: AtomicU32 = AtomicU32::new(NO_HANDLERS);

const NO_HANDLERS: u32 = u32::MAX;

/// A number that differs between a forked child and its ancestors.
#[inline(always)]
pub(crate) fn process() -> u32 {
    // Relaxed: stored before this process had a second thread.
    match GENERATION.load(Ordering::Relaxed) {
        NO_HANDLERS => first_process(),
        generation => generation,
    }
}

#[cold]
fn first_process() -> u32 {
    install_handlers();
    // Relaxed: another thread that comes here stores the same.
    GENERATION.store(0, Ordering::Relaxed);
    0
}

/// Runs `handler` in forked children, on their only thread, before `fork` returns.
pub(crate) fn run_in_child(handler: extern "C" fn()) {
    // SAFETY: the function stays where it is, because an extension is never unloaded.
    let result = unsafe { pthread_atfork(None, None, Some(handler)) };
    assert_eq!(result, 0, "out of memory for fork handlers");
}

pub(super) use handlers::install_handlers;

#[cfg(all(unix, not(any(target_os = "emscripten", pyo3_sync_portable))))]
use libc::pthread_atfork;

/// Where there is no `fork`, nobody calls the handlers.
#[cfg(any(not(unix), target_os = "emscripten", pyo3_sync_portable))]
unsafe fn pthread_atfork(_: Handler, _: Handler, _: Handler) -> core::ffi::c_int {
    0
}

#[cfg(any(not(unix), target_os = "emscripten", pyo3_sync_portable))]
type Handler = Option<unsafe extern "C" fn()>;
