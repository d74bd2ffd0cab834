//! A fence of all threads: what `membarrier` makes, and what time makes of itself, since no processor keeps what it has stored for long.
//!
//! Each thread makes it on its own, before its next access to an atomic, and the one that asks waits for that. A thread that sleeps has
//! made one when it fell asleep, and makes one when it wakes up.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::atomic::Ordering::{Relaxed, SeqCst},
};

use loom::{
    sync::atomic::{AtomicU64, fence},
    thread::{self, ThreadId},
};

thread_local! {
    /// Whether the model has any; if not, looking for them would only make it larger.
    static ENABLED: Cell<bool> = const { Cell::new(false) };
    /// How many have been asked for.
    static ASKED: RefCell<Option<&'static AtomicU64>> = const { RefCell::new(None) };
    /// The last one that each thread has made; `None` if it sleeps.
    static MADE: RefCell<HashMap<ThreadId, Option<u64>>> = RefCell::default();
}

pub(crate) fn start(enabled: bool) {
    ENABLED.set(enabled);
    MADE.take();
    if enabled {
        ASKED.set(Some(Box::leak(Box::new(AtomicU64::new(0)))));
        start_thread();
    }
}

fn asked() -> &'static AtomicU64 {
    ASKED.with_borrow(|asked| asked.expect("a model with barriers runs"))
}

fn set_made(made: Option<u64>) {
    MADE.with_borrow_mut(|all| all.insert(thread::current().id(), made));
}

/// Called before each access.
pub(crate) fn poll() {
    if !ENABLED.get() {
        return;
    }
    let last = asked().load(Relaxed);
    let me = thread::current().id();
    let made = MADE.with_borrow(|all| all.get(&me).copied().flatten());
    if made.is_some_and(|made| made < last) {
        fence(SeqCst);
        set_made(Some(last));
    }
}

pub(crate) fn start_thread() {
    wake_up();
}

pub(crate) fn fall_asleep() {
    if ENABLED.get() {
        fence(SeqCst);
        set_made(None);
    }
}

pub(crate) fn wake_up() {
    if ENABLED.get() {
        set_made(Some(0));
        fence(SeqCst);
    }
}

/// Makes one for all threads.
pub(crate) fn make() {
    if !ENABLED.get() {
        return;
    }
    fence(SeqCst);
    let mine = asked().fetch_add(1, Relaxed) + 1;
    set_made(Some(mine));
    while MADE.with_borrow(|all| all.values().flatten().any(|made| *made < mine)) {
        thread::yield_now();
    }
    fence(SeqCst);
}
