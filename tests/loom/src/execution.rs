//! One run of a model, of the many in which loom tries every order.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use loom::sync::atomic::AtomicU64;

use crate::{barrier, clock, interpreter, local, sync};

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static ATOMICS: RefCell<Vec<AtomicU64>> = const { RefCell::new(Vec::new()) };
    static NEXT_ATOMIC: Cell<usize> = const { Cell::new(0) };
    static PLACES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static ACCESSES: Cell<usize> = const { Cell::new(0) };
}

/// How many atomics a run may use.
const ATOMICS_IN_ALL: usize = 96;

/// The number of this run.
pub fn number() -> u64 {
    NUMBER.get()
}

/// An atomic of loom's that nobody has used, and which is 0.
///
/// All are made when the run begins, before there is a second thread: loom wants the making of an atomic to happen before its first use,
/// and the statics and constants of the crate are not made at any time that loom could know of.
pub(crate) fn new_atomic() -> usize {
    let next = NEXT_ATOMIC.get();
    assert!(next < ATOMICS_IN_ALL, "a larger pool of atomics is needed");
    NEXT_ATOMIC.set(next + 1);
    next
}

/// How many addresses this was asked for before, in this run: a number for each that does not depend on what the allocator gives.
pub fn place_of(address: usize) -> usize {
    PLACES.with_borrow_mut(|places| {
        let known = places.iter().position(|other| *other == address);
        known.unwrap_or_else(|| {
            places.push(address);
            places.len() - 1
        })
    })
}

/// Returns how many accesses to atomics there were so far.
pub fn accesses() -> usize {
    ACCESSES.get()
}

pub(crate) fn with_atomic<R>(index: usize, f: impl FnOnce(&AtomicU64) -> R) -> R {
    ACCESSES.set(ACCESSES.get() + 1);
    // While `f` runs other threads do. Nothing is added to or taken from the pool then.
    let atomic: *const AtomicU64 = ATOMICS.with_borrow(|atomics| &raw const atomics[index]);
    // SAFETY: the pool is exchanged only between runs.
    f(unsafe { &*atomic })
}

/// What a model is to be run with.
#[derive(Clone, Copy)]
pub struct Settings {
    pub world: interpreter::Kind,
    /// How often loom takes the processor from a thread that could go on, at most; without limit if there is none.
    pub preemptions: Option<usize>,
    /// By how much time goes on whenever somebody looks at the clock.
    pub tick: std::time::Duration,
    /// Whether a fence for the whole process is to be had, from the system.
    pub process_fence: bool,
    /// Whether there is one at the end of a sleep with a limit, or of the former kind.
    pub barriers: bool,
}

/// Runs `body` in all orders; gives how many there were.
pub fn model(settings: Settings, body: impl Fn() + Send + Sync + 'static) -> u64 {
    let before = number();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = settings.preemptions.or(builder.preemption_bound);
    builder.max_branches = 20_000;
    builder.check(move || {
        NUMBER.set(number() + 1);
        let atomics = (0..ATOMICS_IN_ALL).map(|_| AtomicU64::new(0)).collect();
        drop(ATOMICS.replace(atomics));
        NEXT_ATOMIC.set(0);
        PLACES.take();
        clock::start(settings.tick);
        local::start();
        sync::start();
        barrier::start(settings.barriers);
        interpreter::start(settings.world, settings.process_fence);
        body();
        local::end_thread();
    });
    number() - before
}

/// Yields to the other threads until `condition` holds.
pub fn until(condition: impl Fn() -> bool) {
    while !condition() {
        // Other threads may wait for a barrier of this one.
        barrier::poll();
        loom::thread::yield_now();
    }
}

/// Starts a thread of the model. It gives nothing if it hangs for ever in the end.
pub fn spawn<R: 'static>(body: impl FnOnce() -> R + 'static) -> JoinHandle<R> {
    JoinHandle(loom::thread::spawn(move || {
        barrier::start_thread();
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(result) => {
                local::end_thread();
                barrier::fall_asleep();
                Some(result)
            }
            Err(panic) if panic.is::<local::Hung>() => {
                local::forget_thread();
                barrier::fall_asleep();
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }))
}

pub struct JoinHandle<R>(loom::thread::JoinHandle<Option<R>>);

impl<R> JoinHandle<R> {
    /// Waits for a thread that ends.
    pub fn join(self) -> R {
        self.join_or_hung().expect("the thread comes to its end")
    }

    /// Waits for a thread that ends, or hangs for ever, and then there is no result.
    pub fn join_or_hung(self) -> Option<R> {
        barrier::fall_asleep();
        let result = self.0.join().expect("it does not panic");
        barrier::wake_up();
        result
    }
}
