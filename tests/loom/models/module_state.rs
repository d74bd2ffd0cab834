//! The records of module states: no thread reads a dropped state, and the state is dropped once.

use std::{cell::Cell, rc::Rc};

use loom::cell::UnsafeCell;
use stand_in::{
    JoinHandle,
    interpreter::{attach, detach},
    pyo3::{Bound, PyModule, Python},
    spawn,
};

use crate::{
    python::FREE_THREADED,
    wait::readers::{self, Entry, LockId},
};

include!(concat!(env!("OUT_DIR"), "/module_state.rs"));

use record::{Place, Records};

pub(crate) trait ModuleData: Sized + 'static {
    fn clear(&self, _py: Python<'_>) {}
}

/// The double of the type of the same name, which is not what this is about.
pub(crate) struct PyOnceLock<T>(std::cell::OnceCell<T>);

impl<T> PyOnceLock<T> {
    pub(crate) const fn new() -> Self {
        PyOnceLock(std::cell::OnceCell::new())
    }

    pub(crate) fn is_initialized(&self) -> bool {
        self.0.get().is_some()
    }

    pub(crate) fn peek(&self) -> Option<&T> {
        // All callers know that the cell was filled, and some do not check.
        Some(self.0.get().expect(USE_AFTER_FREE))
    }
}

impl<T> Default for PyOnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

const USE_AFTER_FREE: &str = "use after free: a dropped state is read";

/// A state, and what its readers and its drop touch.
struct State(Rc<Life>);

struct Life {
    data: UnsafeCell<u32>,
    drops: Cell<u32>,
}

impl ModuleData for State {}

impl State {
    fn use_it(&self) {
        // SAFETY: loom reports a drop at the same time.
        let data = self.0.data.with(|data| unsafe { *data });
        assert_eq!(data, 1, "{USE_AFTER_FREE}");
        assert_eq!(self.0.drops.get(), 0, "{USE_AFTER_FREE}");
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: loom reports a reader at the same time.
        self.0.data.with_mut(|data| unsafe { *data = 2 });
        self.0.drops.set(self.0.drops.get() + 1);
    }
}

impl Life {
    fn new() -> Rc<Self> {
        Rc::new(Life {
            data: UnsafeCell::new(1),
            drops: Cell::new(0),
        })
    }

    /// Called after all threads have ended.
    fn is_over(&self) {
        assert!(self.drops.get() <= 1, "the state is dropped twice");
        // Otherwise it may stay: see `LOOK_AGAIN`.
        if stand_in::interpreter::has_process_fence() || !FREE_THREADED {
            assert_eq!(self.drops.get(), 1, "leak: no thread drops the state");
        }
    }
}

/// Makes a state live.
fn make(records: &Records<State>, life: &Rc<Life>) -> Place<State> {
    let module = Bound::<PyModule>::with_address(8);
    let place = records.take(&module);
    // SAFETY: the state is not abandoned yet.
    let PyOnceLock(cell) = unsafe { place.cell() };
    assert!(cell.set(State(Rc::clone(life))).is_ok());
    records.go_live(place);
    place
}

fn new_records() -> &'static Records<State> {
    // Leaked, as they would be in a static: what is in them is leaked too.
    Box::leak(Box::new(Records::new()))
}

fn look(records: &'static Records<State>) {
    if let Some(reading) = records.latest_and_only() {
        reading.state().use_it();
    }
}

/// Starts a thread that looks for the state.
type StartReader = fn(&'static Records<State>) -> JoinHandle<()>;

/// A thread that has read nothing before, and so enters with a fence.
fn new_reader(records: &'static Records<State>) -> JoinHandle<()> {
    spawn(move || attach(|_| look(records)))
}

/// A thread that has read something before, and so enters without a fence if there is a barrier.
fn returning_reader(records: &'static Records<State>) -> JoinHandle<()> {
    spawn(move || {
        attach(|_| {
            Entry::new(LockId::new()).leave();
            // The stand-ins delay the fence of a sequentially consistent store to the next
            // such load, which is here.
            readers::is_read(LockId::new());
            look(records);
        });
    })
}

/// A thread looks for the state, while its module is dropped.
fn drop_beside(start_reader: StartReader) {
    let (records, life) = (new_records(), Life::new());
    let place = attach(|_| make(records, &life));
    let reader = start_reader(records);
    attach(|_| records.abandon(place));
    reader.join();
    life.is_over();
}

pub(crate) fn dropped() {
    drop_beside(new_reader);
}

pub(crate) fn dropped_beside_returning_reader() {
    drop_beside(returning_reader);
}

/// Then another state is made, perhaps in the same record, and dropped too.
fn reuse_beside(start_reader: StartReader) {
    let (records, lives) = (new_records(), [Life::new(), Life::new()]);
    let place = attach(|_| make(records, &lives[0]));
    let reader = start_reader(records);
    attach(|_| {
        records.abandon(place);
        let place = make(records, &lives[1]);
        records.abandon(place);
    });
    reader.join();
    lives.iter().for_each(|life| life.is_over());
}

pub(crate) fn reused() {
    reuse_beside(new_reader);
}

pub(crate) fn reused_beside_returning_reader() {
    reuse_beside(returning_reader);
}

/// A reader leaves the state after its module was dropped.
pub(crate) fn left_last() {
    let (records, life) = (new_records(), Life::new());
    let place = attach(|_| make(records, &life));
    attach(|py| {
        let mine = records.latest_and_only().expect("it is live");
        let abandons = spawn(move || attach(|_| records.abandon(place)));
        detach(py, || abandons.join());
        mine.state().use_it();
    });
    life.is_over();
}

/// Two threads leave the state, while its module is dropped.
pub(crate) fn two_readers() {
    let (records, life) = (new_records(), Life::new());
    let place = attach(|_| make(records, &life));
    let reader = returning_reader(records);
    let abandons = attach(|_| {
        let mine = records.latest_and_only().expect("it is live");
        let abandons = spawn(move || {
            attach(|_| {
                // SAFETY: the state is not abandoned yet.
                let state = unsafe { place.cell() }.peek();
                state.expect("it is filled").use_it(); // As its holder does.
                records.abandon(place);
            });
        });
        mine.state().use_it();
        drop(mine);
        abandons
    });
    reader.join();
    abandons.join();
    life.is_over();
}
