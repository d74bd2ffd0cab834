//! The records of module states: no thread reads a dropped state, and the state is dropped once.

use std::rc::Rc;

use stand_in::{
    JoinHandle,
    interpreter::{attach, detach},
    pyo3::{Bound, PyModule, Python},
    spawn,
};

use crate::snapshot::{Life, Value, read_something};

include!(concat!(env!("OUT_DIR"), "/module_state.rs"));

use record::{Owned, Records};

pub(crate) trait ModuleData: Sized + 'static {
    fn clear(&self, _py: Python<'_>) {}
}

/// The double of the type of the same name, which is not what this is about.
pub(crate) struct PyOnceLock<T>(std::cell::OnceCell<T>);

impl<T> PyOnceLock<T> {
    pub(crate) const fn new() -> Self {
        PyOnceLock(std::cell::OnceCell::new())
    }

    pub(crate) fn peek(&self) -> Option<&T> {
        self.0.get()
    }
}

type State = Value;

impl ModuleData for State {}

/// Makes a state live.
fn make(records: &'static Records<State>, life: &Rc<Life>) -> Owned<State> {
    let owned = records.create(&module());
    assert!(owned.cell().0.set(Value::new(life)).is_ok());
    owned.go_live();
    owned
}

fn new_records() -> &'static Records<State> {
    // Leaked, because states are of statics.
    Box::leak(Box::new(Records::new()))
}

fn look(records: &'static Records<State>) {
    if let Some(reading) = records.latest_of(&module()) {
        reading.state().use_it();
    }
}

fn module() -> Bound<'static, PyModule> {
    Bound::with_address(8)
}

/// Starts a thread that looks for the state.
type StartReader = fn(&'static Records<State>) -> JoinHandle<()>;

/// A thread that has read nothing before.
fn new_reader(records: &'static Records<State>) -> JoinHandle<()> {
    spawn(move || attach(|_| look(records)))
}

/// A thread that has read something before, and so enters on the fast path.
fn returning_reader(records: &'static Records<State>) -> JoinHandle<()> {
    spawn(move || {
        attach(|_| {
            read_something();
            look(records);
        });
    })
}

/// A thread looks for the state, while its module is dropped.
fn drop_beside(start_reader: StartReader) {
    let (records, life) = (new_records(), Life::new());
    let owned = attach(|_| make(records, &life));
    attach(|_| {
        look(records);
        read_something();
    });
    let reader = start_reader(records);
    attach(|_| drop(owned));
    reader.join();
    life.is_over::<1>();
}

pub(crate) fn dropped() {
    drop_beside(new_reader);
}

pub(crate) fn dropped_beside_returning_reader() {
    drop_beside(returning_reader);
}

/// Then another state is made in the same record, perhaps in the same memory, and dropped too.
pub(crate) fn reused() {
    let (records, lives) = (new_records(), [Life::new(), Life::new()]);
    let owned = attach(|_| make(records, &lives[0]));
    attach(|_| {
        look(records);
        read_something();
    });
    let reader = returning_reader(records);
    attach(|_| {
        drop(owned);
        drop(make(records, &lives[1]));
    });
    reader.join();
    lives.iter().for_each(|life| life.is_over::<1>());
}

/// A reader leaves the state after its module was dropped.
pub(crate) fn left_last() {
    let (records, life) = (new_records(), Life::new());
    let owned = attach(|_| make(records, &life));
    attach(|py| {
        let mine = records.latest_and_only(py).expect("it is live");
        let drops = spawn(move || attach(|_| drop(owned)));
        detach(py, || drops.join());
        mine.state().use_it();
    });
    life.is_over::<1>();
}

/// Two threads leave the state, while its module is dropped.
pub(crate) fn two_readers() {
    let (records, life) = (new_records(), Life::new());
    let owned = attach(|_| make(records, &life));
    attach(|_| {
        look(records);
        read_something();
    });
    let reader = returning_reader(records);
    let drops = attach(|py| {
        let mine = records.latest_and_only(py).expect("it is live");
        let drops = spawn(move || {
            attach(|_| {
                owned.cell().peek().expect("it is filled").use_it(); // As its holder does.
                drop(owned);
            });
        });
        mine.state().use_it();
        drop(mine);
        drops
    });
    reader.join();
    drops.join();
    life.is_over::<1>();
}

/// The module is collected, and later dropped, while another thread makes its state live.
pub(crate) fn condemned() {
    let (records, life) = (new_records(), Life::new());
    let owned = Rc::new(records.create(&module()));
    assert!(owned.cell().0.set(Value::new(&life)).is_ok());
    let other = Rc::clone(&owned);
    let initializes = spawn(move || attach(|_| other.go_live()));
    attach(|_| owned.condemn());
    initializes.join();
    attach(|py| {
        assert!(owned.is_condemned());
        assert!(
            records.latest_and_only(py).is_none(),
            "found though condemned"
        );
        assert!(owned.read(py).is_none(), "read though condemned");
        drop(owned);
    });
    life.is_over::<1>();
}

/// A handle does not find a later state at the same place.
pub(crate) fn handle() {
    let (records, lives) = (new_records(), [Life::new(), Life::new()]);
    attach(|py| {
        let owned = make(records, &lives[0]);
        let place = owned.read(py).expect("it is live").place();
        assert!(place.read(py).is_some());
        drop(owned);
        let later = make(records, &lives[1]);
        assert!(place.read(py).is_none(), "a handle finds another state");
        drop(later);
    });
    lives.iter().for_each(|life| life.is_over::<1>());
}

/// A lookup with a module does not find the state of another module.
pub(crate) fn two_modules() {
    let (records, life) = (new_records(), Life::new());
    attach(|_| {
        let owned = make(records, &life);
        let other = Bound::<PyModule>::with_address(16);
        assert!(
            records.latest_of(&other).is_none(),
            "the state of another module"
        );
        assert!(records.of(&other).is_none(), "the state of another module");
        drop(owned);
    });
    life.is_over::<1>();
}
