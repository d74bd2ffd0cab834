//! Registry of the threads that have used a lock of this crate.
//!
//! Error messages take thread names from it, and [`import_lock`](super::import_lock) maps the
//! interpreter's thread ids to [`ThreadId`]s. A thread registers once, when it is assigned its
//! [`ThreadId`], and unregisters when it ends.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
};

use super::{ThreadId, ident};

/// The Rust handle and the Python id of a thread.
#[derive(Clone)]
pub(crate) struct ThreadInfo {
    handle: Thread,
    /// The thread's `threading.get_ident()`, on platforms where it is known without calling Python.
    pub(crate) ident: Option<u64>,
}

impl ThreadInfo {
    fn current() -> Self {
        ThreadInfo {
            handle: thread::current(),
            ident: ident::python_thread_id(ident::current()),
        }
    }

    /// Returns the name of the Rust thread.
    pub(crate) fn rust_name(&self) -> Option<&str> {
        self.handle.name()
    }
}

pub(super) type Registry = HashMap<ThreadId, ThreadInfo>;

/// `None` until the first thread registers.
static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

/// Locks the registry. No other lock of [`wait`](super) is acquired under it, except at a fork.
pub(super) fn lock_registry() -> MutexGuard<'static, Option<Registry>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the thread from the registry when its thread-locals are destroyed.
struct Unregister(ThreadId);

impl Drop for Unregister {
    fn drop(&mut self) {
        let entry = lock_registry()
            .as_mut()
            .and_then(|registry| registry.remove(&self.0));
        drop(entry);
    }
}

/// Registers the calling thread.
pub(super) fn register(id: ThreadId) {
    thread_local! {
        static REGISTRATION: std::cell::OnceCell<Unregister> = const { std::cell::OnceCell::new() };
    }
    // Fails while the thread-locals are being destroyed. Such a thread stays unregistered.
    let entered = REGISTRATION.try_with(|registration| registration.set(Unregister(id)).is_ok());
    if entered == Ok(true) {
        let info = ThreadInfo::current();
        lock_registry().get_or_insert_default().insert(id, info);
    }
}

/// Returns the registered thread with this id. Returns `None` once the thread has ended.
pub(crate) fn thread_info(id: ThreadId) -> Option<ThreadInfo> {
    lock_registry()
        .as_ref()
        .and_then(|registry| registry.get(&id))
        .cloned()
}

/// Returns the registered thread with this `threading.get_ident()`.
pub(crate) fn with_ident(ident: u64) -> Option<ThreadId> {
    lock_registry()
        .as_ref()?
        .iter()
        .find(|(_, info)| info.ident == Some(ident))
        .map(|(id, _)| *id)
}
