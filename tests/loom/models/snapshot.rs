//! The snapshot: no thread reads a dropped value, and each replaced value is dropped once.

use std::{cell::Cell, rc::Rc};

use loom::cell::UnsafeCell;
use stand_in::{
    JoinHandle,
    interpreter::{attach, detach, stop_the_world},
    pyo3::pyclass::PyVisit,
    spawn,
};

use crate::wait::readers::{self, Entry, LockId};

include!(concat!(env!("OUT_DIR"), "/snapshot.rs"));

pub(crate) use subject::{PySnapshot, raw};

const USE_AFTER_FREE: &str = "use after free: a dropped value is read";

/// A value, and what its readers and its drop touch. The tag is that of its type.
pub(crate) struct Value<const TAG: u32 = 1>(Rc<Life>);

/// The record of a value, which outlives it.
pub(crate) struct Life {
    data: UnsafeCell<u32>,
    drops: Cell<u32>,
    /// The tag of the type as which the value was dropped.
    dropped_as: Cell<u32>,
}

impl Life {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Life {
            data: UnsafeCell::new(0),
            drops: Cell::new(0),
            dropped_as: Cell::new(0),
        })
    }

    /// Called after all threads have ended, with the tag of the value's type.
    pub(crate) fn is_over<const TAG: u32>(&self) {
        assert!(self.drops.get() <= 1, "the value is dropped twice");
        assert_eq!(self.drops.get(), 1, "leak: no thread drops the value");
        assert_eq!(self.dropped_as.get(), TAG, "dropped as another type");
    }
}

impl<const TAG: u32> Value<TAG> {
    /// Creates the value, on the thread that will publish it.
    pub(crate) fn new(life: &Rc<Life>) -> Self {
        // SAFETY: loom reports an access at the same time.
        life.data.with_mut(|data| unsafe { *data = 1 });
        Value(Rc::clone(life))
    }

    pub(crate) fn use_it(&self) {
        // SAFETY: loom reports a drop at the same time.
        let data = self.0.data.with(|data| unsafe { *data });
        assert_eq!(data, 1, "{USE_AFTER_FREE}");
        assert_eq!(self.0.drops.get(), 0, "{USE_AFTER_FREE}");
    }
}

impl<const TAG: u32> Drop for Value<TAG> {
    fn drop(&mut self) {
        // SAFETY: loom reports a reader at the same time.
        self.0.data.with_mut(|data| unsafe { *data = 2 });
        self.0.drops.set(self.0.drops.get() + 1);
        self.0.dropped_as.set(TAG);
    }
}

type Snapshot = Rc<PySnapshot<Value>>;

/// Creates a snapshot, and decides whether there is a barrier, before other threads begin.
fn new(life: &Rc<Life>) -> Snapshot {
    let snapshot: Snapshot = Rc::new(PySnapshot::new(Value::new(life)));
    attach(|py| {
        snapshot.load(py).use_it();
        read_something();
    });
    snapshot
}

fn lives<const N: usize>() -> [Rc<Life>; N] {
    std::array::from_fn(|_| Life::new())
}

/// Drops the snapshot, and checks all of its values.
fn end<const N: usize>(snapshot: Snapshot, lives: &[Rc<Life>; N]) {
    attach(|_| drop(Rc::into_inner(snapshot).expect("all threads have ended")));
    lives.iter().for_each(|life| life.is_over::<1>());
}

/// Starts a thread that loads a value.
type StartReader = fn(&Snapshot) -> JoinHandle<()>;

/// A thread that has read nothing before.
fn new_reader(snapshot: &Snapshot) -> JoinHandle<()> {
    let snapshot = Rc::clone(snapshot);
    spawn(move || attach(|py| snapshot.load(py).use_it()))
}

/// A thread that has read something before, and so enters on the fast path.
fn returning_reader(snapshot: &Snapshot) -> JoinHandle<()> {
    let snapshot = Rc::clone(snapshot);
    spawn(move || {
        attach(|py| {
            read_something();
            snapshot.load(py).use_it();
        });
    })
}

/// Reads something else, which links a record of the thread.
///
/// The stand-ins delay the fence of a sequentially consistent store to the next such load, which is
/// here. In the model proper it would stand in for a fence that is missing.
pub(crate) fn read_something() {
    Entry::new(LockId::new()).leave();
    readers::is_read(LockId::new());
}

/// A thread loads while another one stores.
fn store_beside(start_reader: StartReader) {
    let lives: [_; 2] = lives();
    let snapshot = new(&lives[0]);
    let reader = start_reader(&snapshot);
    attach(|py| snapshot.store(py, Value::new(&lives[1])));
    reader.join();
    end(snapshot, &lives);
}

pub(crate) fn stored() {
    store_beside(new_reader);
}

pub(crate) fn stored_beside_returning_reader() {
    store_beside(returning_reader);
}

/// The third value takes the memory of the first one of the other two that is freed.
pub(crate) fn reused() {
    let lives: [_; 4] = lives();
    let snapshot = new(&lives[0]);
    attach(|py| snapshot.store(py, Value::new(&lives[1])));
    let reader = returning_reader(&snapshot);
    attach(|py| {
        snapshot.store(py, Value::new(&lives[2]));
        snapshot.store(py, Value::new(&lives[3]));
    });
    reader.join();
    end(snapshot, &lives);
}

/// A reader leaves after the value was replaced.
pub(crate) fn left_last() {
    let lives: [_; 2] = lives();
    let snapshot = new(&lives[0]);
    attach(|py| {
        let mine = snapshot.load(py);
        let other = Rc::clone(&snapshot);
        let life = Rc::clone(&lives[1]);
        let stores = spawn(move || attach(|py| other.store(py, Value::new(&life))));
        detach(py, || stores.join());
        mine.use_it();
    });
    end(snapshot, &lives);
}

/// Two threads leave the value, while a third one replaces it.
pub(crate) fn two_readers() {
    let lives: [_; 2] = lives();
    let snapshot = new(&lives[0]);
    let reader = returning_reader(&snapshot);
    let stores = attach(|py| {
        let mine = snapshot.load(py);
        let (other, life) = (Rc::clone(&snapshot), Rc::clone(&lives[1]));
        let stores = spawn(move || attach(|py| other.store(py, Value::new(&life))));
        mine.use_it();
        drop(mine);
        stores
    });
    reader.join();
    stores.join();
    end(snapshot, &lives);
}

/// A thread loads a value that it reads already, or a newer one.
pub(crate) fn nested() {
    let lives: [_; 2] = lives();
    let snapshot = new(&lives[0]);
    let (other, life) = (Rc::clone(&snapshot), Rc::clone(&lives[1]));
    let stores = spawn(move || attach(|py| other.store(py, Value::new(&life))));
    attach(|py| {
        let first = snapshot.load(py);
        let second = snapshot.load(py);
        first.use_it();
        drop(first);
        second.use_it();
    });
    stores.join();
    end(snapshot, &lives);
}

/// Two threads store, and each drops what the other one has stored.
pub(crate) fn two_stores() {
    let lives: [_; 3] = lives();
    let snapshot = new(&lives[0]);
    let (other, life) = (Rc::clone(&snapshot), Rc::clone(&lives[1]));
    let stores = spawn(move || {
        attach(|py| {
            other.store(py, Value::new(&life));
            other.load(py).use_it();
        });
    });
    attach(|py| snapshot.store(py, Value::new(&lives[2])));
    stores.join();
    end(snapshot, &lives);
}

/// No update is lost.
pub(crate) fn two_updates() {
    let snapshot = Rc::new(PySnapshot::new(0));
    attach(|py| drop(snapshot.load(py)));
    let other = Rc::clone(&snapshot);
    let updates = spawn(move || attach(|py| other.update(py, |old| old + 1)));
    attach(|py| snapshot.update(py, |old| old + 1));
    updates.join();
    attach(|py| assert_eq!(*snapshot.load(py), 2, "an update is lost"));
}

/// A thread stores while another one updates.
pub(crate) fn update_and_store() {
    let lives: [_; 3] = lives();
    let snapshot = new(&lives[0]);
    let (other, life) = (Rc::clone(&snapshot), Rc::clone(&lives[1]));
    let stores = spawn(move || attach(|py| other.store(py, Value::new(&life))));
    attach(|py| {
        snapshot.update(py, |old| {
            old.use_it();
            Value::new(&lives[2])
        });
    });
    stores.join();
    attach(|py| snapshot.load(py).use_it());
    end(snapshot, &lives);
}

/// The first load and the first store of the process, at once.
pub(crate) fn undecided() {
    let lives: [_; 2] = lives();
    let snapshot: Snapshot = Rc::new(PySnapshot::new(Value::new(&lives[0])));
    let reader = returning_reader(&snapshot);
    attach(|py| snapshot.store(py, Value::new(&lives[1])));
    reader.join();
    end(snapshot, &lives);
}

/// While a reader leaves a node, the memory of that node becomes a node of another snapshot, with
/// another type.
pub(crate) fn two_types() {
    let lives: [_; 3] = lives();
    let others: [_; 3] = self::lives();
    let snapshot = new(&lives[0]);
    let other: PySnapshot<Value<2>> = PySnapshot::new(Value::new(&others[0]));
    attach(|py| snapshot.store(py, Value::new(&lives[1])));
    let reads = Rc::clone(&snapshot);
    let reader = spawn(move || {
        attach(|py| {
            read_something();
            let guard = reads.load(py);
            guard.use_it();
            loom::thread::yield_now();
            drop(guard);
        });
    });
    attach(|py| {
        loom::thread::yield_now();
        snapshot.store(py, Value::new(&lives[2]));
        other.store(py, Value::new(&others[1]));
        let mine = other.load(py);
        other.store(py, Value::new(&others[2]));
        drop(mine);
    });
    reader.join();
    attach(|_| drop(other));
    others.iter().for_each(|life| life.is_over::<2>());
    end(snapshot, &lives);
}

/// A thread leaves one snapshot and reads another one, while a thread replaces the value of the
/// first one.
pub(crate) fn two_loads() {
    let lives: [_; 2] = lives();
    let snapshot = new(&lives[0]);
    let (reads, other) = (Rc::clone(&snapshot), PySnapshot::new(0));
    let reader = spawn(move || {
        attach(|py| {
            read_something();
            reads.load(py).use_it();
            assert_eq!(*other.load(py), 0);
        });
    });
    attach(|py| {
        loom::thread::yield_now();
        snapshot.store(py, Value::new(&lives[1]));
    });
    reader.join();
    end(snapshot, &lives);
}

/// The collector sees a whole value, whatever other threads were doing.
pub(crate) fn stopped_world() {
    let lives: [_; 2] = lives();
    let snapshot = new(&lives[0]);
    let (other, life) = (Rc::clone(&snapshot), Rc::clone(&lives[1]));
    let stores = spawn(move || attach(|py| other.store(py, Value::new(&life))));
    stop_the_world(|| snapshot.traverse(&PyVisit::new()).use_it());
    stores.join();
    end(snapshot, &lives);
}

/// A thread reads what another one has computed.
pub(crate) fn update_and_read() {
    let lives: [_; 2] = lives();
    let snapshot = new(&lives[0]);
    let (other, life) = (Rc::clone(&snapshot), Rc::clone(&lives[1]));
    let updates = spawn(move || attach(|py| other.update(py, |_| Value::new(&life))));
    attach(|py| snapshot.load(py).use_it());
    updates.join();
    end(snapshot, &lives);
}
