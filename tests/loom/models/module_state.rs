//! The records of module states: nobody reads a state that was dropped, and one that nobody reads is dropped once.

use std::{cell::Cell, rc::Rc};

use loom::cell::UnsafeCell;
use stand_in::{
    JoinHandle,
    interpreter::attach,
    pyo3::{Bound, PyModule, Python},
    spawn,
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
        self.0.get()
    }
}

impl<T> Default for PyOnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A state, and what its readers and its drop touch.
struct State(Rc<Life>);

struct Life {
    data: UnsafeCell<u32>,
    drops: Cell<u32>,
}

impl ModuleData for State {}

impl State {
    fn use_it(&self) {
        // SAFETY: loom sees whether it is dropped at the same time.
        assert_eq!(self.0.data.with(|data| unsafe { *data }), 1);
        assert_eq!(self.0.drops.get(), 0, "a dropped state is read");
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: loom sees whether somebody reads.
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

    /// After all threads have ended.
    fn is_over(&self) {
        assert!(self.drops.get() <= 1);
        if stand_in::interpreter::has_process_fence() {
            // Without it, it may stay, as told at `LOOK_AGAIN`.
            assert_eq!(self.drops.get(), 1, "the last one to leave drops the state");
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

fn look(records: &'static Records<State>) -> JoinHandle<()> {
    spawn(move || {
        attach(|_| {
            if let Some(reading) = records.latest_and_only() {
                reading.state().use_it();
            }
        });
    })
}

/// One thread looks for the state, while another one drops its module.
pub(crate) fn dropped() {
    let (records, life) = (new_records(), Life::new());
    let place = attach(|_| make(records, &life));
    let reader = look(records);
    attach(|_| records.abandon(place));
    reader.join();
    life.is_over();
}

/// Then another state is made, perhaps in the same record, and dropped too.
pub(crate) fn reused() {
    let (records, lives) = (new_records(), [Life::new(), Life::new()]);
    let place = attach(|_| make(records, &lives[0]));
    let reader = look(records);
    attach(|_| {
        records.abandon(place);
        let place = make(records, &lives[1]);
        records.abandon(place);
    });
    reader.join();
    lives.iter().for_each(|life| life.is_over());
}
