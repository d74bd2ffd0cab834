//! Repairs the shared state of the crate in forked children (invariant I7).
//!
//! The child has one thread, a copy of the forking thread, and a copy of all memory. That memory
//! contains queues of threads that do not exist there, and locks that such threads may hold. Three
//! handlers repair it:
//!
//! - *Before* the fork, the forking thread locks every queue, the graph, the registry and the list
//!   of reader records. The state that they guard is then consistent.
//! - *After* the fork, the parent unlocks them.
//! - The child discards all entries, edges and threads except its own. It records that older ids
//!   are lost to the fork ([`ThreadId::is_gone`]), and unlocks.
//!
//! In the list of reader records ([`readers`](super::readers)) the child keeps those of lost
//! threads that read. They are reported to writers: a reader may have lent the data to the
//! surviving thread.
//!
//! The words of locks are unchanged. Each lock handles an owner that was lost to a fork: a cell
//! counts as empty, and a mutex reports a deadlock. A read-write lock reports one too, unless the
//! owner was waiting for readers to drain ([`DrainingOwner`](super::DrainingOwner)).
//!
//! The holder of one of these locks never waits, so the handlers block for a few instructions at
//! most. No other thread holds two of them, so their order does not matter. The child may free
//! memory, because C libraries keep the allocator consistent across a fork.

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

    /// The locks that the forking thread holds between the handlers.
    struct LocksHeldOverFork {
        queues: Vec<MutexGuard<'static, park::Queue>>,
        graph: MutexGuard<'static, graph::Graph>,
        registry: MutexGuard<'static, Option<threads::Registry>>,
        records: MutexGuard<'static, readers::List>,
    }

    struct Slot(UnsafeCell<Option<LocksHeldOverFork>>);

    // SAFETY:
    // - Only the handlers use the slot.
    // - The forking thread holds the locks between them, so a second fork blocks before it.
    unsafe impl Sync for Slot {}

    static HELD: Slot = Slot(UnsafeCell::new(None));

    pub(in crate::wait) fn install_handlers() {
        // Not a `Once`: in a child forked while it runs, it would never complete.
        // Relaxed: racing threads rely on nothing that this thread wrote.
        static INSTALLED: AtomicBool = AtomicBool::new(false);
        if INSTALLED.load(Ordering::Relaxed) || INSTALLED.swap(true, Ordering::Relaxed) {
            return;
        }
        // SAFETY: the functions stay valid, because an extension is never unloaded.
        let result =
            unsafe { super::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
        assert_eq!(result, 0, "out of memory for fork handlers");
    }

    extern "C" fn prepare() {
        let registry = threads::lock_registry();
        let graph = graph::lock_graph();
        let queues = park::lock_all_queues();
        let records = readers::lock_list();
        // SAFETY: this thread holds all locks, so no other thread is between the handlers.
        let slot = unsafe { &mut *HELD.0.get() };
        *slot = Some(LocksHeldOverFork {
            queues,
            graph,
            registry,
            records,
        });
    }

    fn take_held() -> Option<LocksHeldOverFork> {
        // SAFETY: the calling thread ran `prepare` and still holds the locks.
        unsafe { &mut *HELD.0.get() }.take()
    }

    extern "C" fn in_parent() {
        drop(take_held());
    }

    extern "C" fn in_child() {
        let Some(mut held) = take_held() else { return };
        let generation = super::GENERATION.load(Ordering::Relaxed);
        if generation != super::NO_HANDLERS {
            // Saturates below `NO_HANDLERS`.
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

/// Returns the fork depth, which differs between a forked child and its ancestors.
#[inline(always)]
pub(crate) fn process() -> u32 {
    // Relaxed: the child stored it before it had a second thread.
    match GENERATION.load(Ordering::Relaxed) {
        NO_HANDLERS => first_process(),
        generation => generation,
    }
}

#[cold]
fn first_process() -> u32 {
    install_handlers();
    // Relaxed: racing threads store the same value.
    GENERATION.store(0, Ordering::Relaxed);
    0
}

/// Runs `handler` in forked children, on their only thread, before `fork` returns.
pub(crate) fn run_in_child(handler: extern "C" fn()) {
    // SAFETY: the function stays valid, because an extension is never unloaded.
    let result = unsafe { pthread_atfork(None, None, Some(handler)) };
    assert_eq!(result, 0, "out of memory for fork handlers");
}

pub(super) use handlers::install_handlers;

#[cfg(all(unix, not(any(target_os = "emscripten", pyo3_sync_portable))))]
use libc::pthread_atfork;

/// Registers nothing, on systems without `fork`.
#[cfg(any(not(unix), target_os = "emscripten", pyo3_sync_portable))]
unsafe fn pthread_atfork(_: Handler, _: Handler, _: Handler) -> core::ffi::c_int {
    0
}

#[cfg(any(not(unix), target_os = "emscripten", pyo3_sync_portable))]
type Handler = Option<unsafe extern "C" fn()>;
