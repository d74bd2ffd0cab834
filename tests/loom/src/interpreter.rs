//! The interpreter: who is attached, when all must have let go of it, and its end.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use loom::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, ThreadId},
};

use crate::{barrier, local, pyo3::Python, sync};

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
    /// The only thread that can attach from now on.
    finalizer: Option<ThreadId>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// Waits until something has changed.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        barrier::fall_asleep();
        let state = self.changed.wait(state).expect("nobody panics under it");
        barrier::wake_up();
        state
    }
}

struct World {
    kind: Kind,
    process_fence: bool,
    /// Which threads are attached, for assertions.
    attached: Vec<ThreadId>,
    is_finalizing: bool,
    /// The model has seen enough: threads that attach in vain, or sleep, end.
    is_over: bool,
    /// How often a thread has detached.
    detachments: usize,
    /// What runs on a thread when it has attached next, as destructors may.
    on_attach: HashMap<ThreadId, OtherCode>,
    gate: Arc<Gate>,
}

/// Code that the interpreter runs on a thread that did not ask for it.
type OtherCode = Box<dyn FnOnce(Python<'static>)>;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    /// After how many looks for signals a handler raises an exception; `None` if never.
    static SIGNAL: Cell<Option<u32>> = const { Cell::new(None) };
    /// What it does instead.
    static HANDLER: RefCell<Option<OtherCode>> = const { RefCell::new(None) };
}

pub(crate) fn start(kind: Kind, process_fence: bool) {
    let world = World {
        kind,
        process_fence,
        attached: Vec::new(),
        is_finalizing: false,
        is_over: false,
        detachments: 0,
        on_attach: HashMap::new(),
        gate: Arc::default(),
    };
    drop(WORLD.replace(Some(world)));
    SIGNAL.set(None);
    drop(HANDLER.take());
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

/// Put where a word is written.
pub fn assert_attached() {
    assert!(
        is_attached() || local::is_dead(),
        "I3: a thread writes a word while it is detached"
    );
}

/// How often threads have detached.
pub fn detachments() -> usize {
    with(|world| world.detachments)
}

pub(crate) fn attach_thread() {
    if local::is_dead() {
        return;
    }
    let me = thread::current().id();
    let (kind, gate) = with(|world| (world.kind, Arc::clone(&world.gate)));
    if kind != Kind::Free {
        let mut state = gate.state.lock().expect("nobody panics under it");
        loop {
            let is_shut = match state.finalizer {
                Some(finalizer) => finalizer != me,
                None => state.is_stopped || (kind == Kind::Gil && state.attached > 0),
            };
            if !is_shut {
                break;
            }
            if is_over() {
                // Attaching never returns. What this thread does from here on is nothing, and it ends as soon as it can.
                return local::die();
            }
            state = gate.wait(state);
        }
        state.attached += 1;
    }
    let other_code = with(|world| {
        world.attached.push(me);
        world.on_attach.remove(&me)
    });
    if let Some(other_code) = other_code {
        // SAFETY: it is attached.
        other_code(unsafe { Python::assume_attached() });
    }
}

pub(crate) fn detach_thread() {
    if local::is_dead() {
        return;
    }
    let me = thread::current().id();
    let (kind, gate) = with(|world| {
        let place = world.attached.iter().position(|other| *other == me);
        world.attached.remove(place.expect("it is attached"));
        world.detachments += 1;
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
    local::end_if_dead();
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
    local::end_if_dead();
    result
}

/// Lets `f` run on the calling thread when it attaches again: the interpreter may run anything there, destructors for example.
pub fn on_attach(f: impl FnOnce(Python<'static>) + 'static) {
    let me = thread::current().id();
    with(|world| world.on_attach.insert(me, Box::new(f)));
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
        state = gate.wait(state);
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

/// Runs `f` while the interpreter shuts down, on the calling thread, which is attached, and the only one from here on: the others run to
/// where they detach, and attaching never returns for them.
pub fn finalize<R>(py: Python<'_>, f: impl FnOnce(Python<'_>) -> R) -> R {
    let me = thread::current().id();
    let (kind, gate) = with(|world| (world.kind, Arc::clone(&world.gate)));
    assert_ne!(kind, Kind::Free, "there is a gate");
    let mut state = gate.state.lock().expect("nobody panics under it");
    state.is_stopped = true;
    while state.attached > 1 {
        state = gate.wait(state);
    }
    state.finalizer = Some(me);
    drop(state);
    with(|world| world.is_finalizing = true);
    let result = f(py);
    {
        let _state = gate.state.lock().expect("nobody panics under it");
        with(|world| world.is_over = true);
    }
    gate.changed.notify_all();
    sync::wake_all();
    result
}

pub(crate) fn is_over() -> bool {
    with(|world| world.is_over)
}

pub fn is_finalizing() -> bool {
    // No point at which loom may switch: if it is, only the thread that has said so is attached and can ask.
    with(|world| world.is_finalizing)
}

/// Lets a signal handler raise an exception, once, when threads have looked for signals that often.
pub fn raise_after(looks: u32) {
    SIGNAL.set(Some(looks));
}

/// Whether a signal handler raises an exception now.
pub(crate) fn has_signal() -> bool {
    match SIGNAL.get() {
        Some(0) => {
            SIGNAL.set(None);
            match HANDLER.take() {
                Some(handler) => {
                    // SAFETY: who looks for signals is attached.
                    handler(unsafe { Python::assume_attached() });
                    false
                }
                None => true,
            }
        }
        Some(looks) => {
            SIGNAL.set(Some(looks - 1));
            false
        }
        None => false,
    }
}

/// Lets a signal handler run code, once, when threads have looked for signals that often.
pub fn handle_after(looks: u32, f: impl FnOnce(Python<'static>) + 'static) {
    HANDLER.set(Some(Box::new(f)));
    SIGNAL.set(Some(looks));
}
