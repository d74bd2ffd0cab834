//! The interpreter: who is attached, and when all must have let go of it.

use std::{cell::RefCell, sync::Arc};

use loom::{
    sync::{Condvar, Mutex},
    thread::{self, ThreadId},
};

use crate::{barrier, pyo3::Python};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One thread at a time.
    Gil,
    /// As many as like. Attaching and detaching order nothing, which they may: each writes to the thread's own state only.
    Free,
    /// As many as like, and the world can be [stopped](stop_the_world).
    Stopping,
}

#[derive(Default)]
struct State {
    attached: usize,
    is_stopped: bool,
    is_finalizing: bool,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct World {
    kind: Kind,
    process_fence: bool,
    /// Which threads are attached, for assertions.
    attached: Vec<ThreadId>,
    gate: Arc<Gate>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

pub(crate) fn start(kind: Kind, process_fence: bool) {
    let world = World {
        kind,
        process_fence,
        attached: Vec::new(),
        gate: Arc::default(),
    };
    drop(WORLD.replace(Some(world)));
}

fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| f(world.as_mut().expect("a model runs")))
}

pub fn has_process_fence() -> bool {
    with(|world| world.process_fence)
}

/// Whether the calling thread is attached.
pub fn is_attached() -> bool {
    let me = thread::current().id();
    with(|world| world.attached.contains(&me))
}

pub(crate) fn attach_thread() {
    let (kind, gate) = with(|world| (world.kind, Arc::clone(&world.gate)));
    if kind != Kind::Free {
        let mut state = gate.state.lock().expect("nobody panics under it");
        while state.is_stopped || (kind == Kind::Gil && state.attached > 0) {
            barrier::fall_asleep();
            state = gate.changed.wait(state).expect("nobody panics under it");
            barrier::wake_up();
        }
        state.attached += 1;
    }
    let me = thread::current().id();
    with(|world| world.attached.push(me));
}

pub(crate) fn detach_thread() {
    let me = thread::current().id();
    let (kind, gate) = with(|world| {
        let place = world.attached.iter().position(|other| *other == me);
        world.attached.remove(place.expect("it is attached"));
        (world.kind, Arc::clone(&world.gate))
    });
    if kind != Kind::Free {
        gate.state.lock().expect("nobody panics under it").attached -= 1;
        gate.changed.notify_all();
    }
}

/// Runs `f` attached.
pub fn attach<R>(f: impl FnOnce(Python<'_>) -> R) -> R {
    attach_thread();
    // SAFETY: it is.
    let result = f(unsafe { Python::assume_attached() });
    detach_thread();
    result
}

/// Runs `f`, with the calling thread detached, and others before it.
pub fn detach<R>(_py: Python<'_>, f: impl FnOnce() -> R) -> R {
    detach_thread();
    loom::thread::yield_now();
    let result = f();
    attach_thread();
    result
}

/// Runs `f`, the collector, when no thread is attached any more. The calling thread is not, either.
pub fn stop_the_world<R>(f: impl FnOnce() -> R) -> R {
    let gate = with(|world| {
        assert_eq!(world.kind, Kind::Stopping);
        Arc::clone(&world.gate)
    });
    let mut state = gate.state.lock().expect("nobody panics under it");
    state.is_stopped = true;
    while state.attached > 0 {
        state = gate.changed.wait(state).expect("nobody panics under it");
    }
    drop(state);
    let result = f();
    gate.state
        .lock()
        .expect("nobody panics under it")
        .is_stopped = false;
    gate.changed.notify_all();
    result
}

/// Says that the interpreter is shutting down.
pub fn finalize(_py: Python<'_>) {
    let gate = with(|world| Arc::clone(&world.gate));
    gate.state
        .lock()
        .expect("nobody panics under it")
        .is_finalizing = true;
}

pub fn is_finalizing() -> bool {
    // No point at which loom may switch: the answer is that of the thread which asks.
    false
}
