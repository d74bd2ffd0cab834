//! What is known of the threads that own locks or want them: for messages, and to recognise them in the
//! interpreter's own records.
//!
//! A thread enters itself when it gets its id, that is once in its life, and takes itself off when it ends.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
};

use super::{ThreadId, ident};

/// A thread as the outside world knows it.
#[derive(Clone)]
pub(crate) struct KnownThread {
    handle: Thread,
    /// What `threading.get_ident` gives, where this crate knows how to find out without asking Python.
    pub(crate) ident: Option<u64>,
}

impl KnownThread {
    fn current() -> Self {
        KnownThread {
            handle: thread::current(),
            ident: ident::python_ident(ident::current()),
        }
    }

    /// The name that the thread has in Rust.
    pub(crate) fn rust_name(&self) -> Option<&str> {
        self.handle.name()
    }
}

pub(super) type Registry = HashMap<ThreadId, KnownThread>;

/// `None` before the first thread has come.
static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

/// Locks the registry. No other lock of this module's siblings is taken under it, except at a fork.
pub(super) fn lock_registry() -> MutexGuard<'static, Option<Registry>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the entry off the registry when the thread ends.
struct Registration(ThreadId);

impl Drop for Registration {
    fn drop(&mut self) {
        let entry = lock_registry()
            .as_mut()
            .and_then(|registry| registry.remove(&self.0));
        drop(entry);
    }
}

pub(super) fn register(id: ThreadId) {
    thread_local! {
        static REGISTRATION: std::cell::OnceCell<Registration> = const { std::cell::OnceCell::new() };
    }
    // A thread that gets its id while its thread-locals are being destroyed stays unknown.
    let entered = REGISTRATION.try_with(|registration| registration.set(Registration(id)).is_ok());
    if entered == Ok(true) {
        let known = KnownThread::current();
        lock_registry().get_or_insert_default().insert(id, known);
    }
}

/// What is known of a thread: nothing once it has ended.
pub(crate) fn known(id: ThreadId) -> Option<KnownThread> {
    lock_registry()
        .as_ref()
        .and_then(|registry| registry.get(&id))
        .cloned()
}

/// The thread with this `threading.get_ident`, if it has ever touched a lock of ours.
pub(crate) fn with_ident(ident: u64) -> Option<ThreadId> {
    lock_registry()
        .as_ref()?
        .iter()
        .find(|(_, known)| known.ident == Some(ident))
        .map(|(id, _)| *id)
}
