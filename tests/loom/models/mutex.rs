//! The mutex: nobody else is in it, nobody sleeps for ever, and what cannot end is reported.

use std::{cell::Cell, panic::Location, rc::Rc};

use loom::cell::UnsafeCell;
use stand_in::{
    interpreter::{attach, detach},
    pyo3::Python,
    spawn,
};

use crate::{
    deadlock::Cause,
    wait::{Patience, Refusal},
};

include!(concat!(env!("OUT_DIR"), "/mutex.rs"));

use raw::RawMutex;

/// A mutex with a number in it, which loom watches.
struct Counter {
    raw: RawMutex,
    number: UnsafeCell<u32>,
}

impl Counter {
    fn new() -> Rc<Self> {
        Rc::new(Counter {
            raw: RawMutex::new(),
            number: UnsafeCell::new(0),
        })
    }

    #[track_caller]
    fn lock(&self, py: Python<'_>) -> Result<(), Refusal> {
        self.raw.lock(py, || Patience::Forever, Location::caller())
    }

    fn lock_surely(&self, py: Python<'_>) {
        assert!(self.lock(py).is_ok(), "there is no deadlock");
    }

    /// Only by the owner.
    fn increment(&self) {
        // SAFETY: loom sees whether somebody else uses it.
        self.number.with_mut(|number| unsafe { *number += 1 });
    }

    fn number(&self) -> u32 {
        // SAFETY: as above.
        self.number.with(|number| unsafe { *number })
    }

    fn unlock(&self, py: Python<'_>) {
        // SAFETY: the caller owns it.
        unsafe { self.raw.unlock(py) }
    }

    fn add_one(&self) {
        attach(|py| {
            self.lock_surely(py);
            self.increment();
            self.unlock(py);
        });
    }
}

/// All of `threads` add one, and so does this one.
fn count(threads: u32) {
    let counter = Counter::new();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let counter = Rc::clone(&counter);
            spawn(move || counter.add_one())
        })
        .collect();
    counter.add_one();
    for other in others {
        other.join().expect("it does not panic");
    }
    assert_eq!(counter.number(), threads);
    assert!(!counter.raw.is_locked());
}

pub(crate) fn exclusion() {
    count(2);
}

pub(crate) fn three_threads() {
    count(3);
}

/// The owner detaches, so that others fall asleep with a GIL too, and comes back at once: one of the sleepers is due.
pub(crate) fn reservation() {
    let counter = Counter::new();
    let other = {
        let counter = Rc::clone(&counter);
        spawn(move || counter.add_one())
    };
    for _ in 0..2 {
        attach(|py| {
            counter.lock_surely(py);
            counter.increment();
            detach(py, || ());
            counter.increment();
            counter.unlock(py);
        });
    }
    other.join().expect("it does not panic");
    assert_eq!(counter.number(), 5);
}

/// As many threads as mutexes. Each takes one and then the next. If that becomes a circle exactly one of them is told.
fn deadlock(number: usize) {
    let mutexes: Vec<_> = (0..number).map(|_| Counter::new()).collect();
    let told = Rc::new(Cell::new(0));
    let work = |place: usize| {
        let first = Rc::clone(&mutexes[place]);
        let second = Rc::clone(&mutexes[(place + 1) % number]);
        let told = Rc::clone(&told);
        move || {
            attach(|py| {
                first.lock_surely(py);
                // So that the others have their first, with a GIL too.
                detach(py, || ());
                match second.lock(py) {
                    Ok(()) => {
                        second.increment();
                        second.unlock(py);
                    }
                    Err(Refusal::Deadlock(error)) => {
                        assert_eq!(error.cause, Cause::Cycle);
                        assert_eq!(error.links, number);
                        told.set(told.get() + 1);
                    }
                    Err(_) => unreachable!("it has no limit"),
                }
                first.increment();
                first.unlock(py);
            });
        }
    };
    let others: Vec<_> = (1..number).map(|place| spawn(work(place))).collect();
    work(0)();
    for other in others {
        other.join().expect("it does not panic");
    }
    assert!(told.get() <= 1, "one thread of a cycle is told");
    let sum: u32 = mutexes.iter().map(|mutex| mutex.number()).sum();
    assert_eq!(sum, 2 * number as u32 - told.get());
}

pub(crate) fn deadlock_of_two() {
    deadlock(2);
}

pub(crate) fn deadlock_of_three() {
    deadlock(3);
}

/// Two threads, two mutexes, in one order, and then the first once more: nobody is told of a deadlock.
pub(crate) fn no_false_deadlock() {
    let mutexes = [Counter::new(), Counter::new()];
    let work = |[a, b]: [Rc<Counter>; 2]| {
        move || {
            attach(|py| {
                a.lock_surely(py);
                b.lock_surely(py);
                a.unlock(py);
                b.increment();
                b.unlock(py);
                a.lock_surely(py);
                a.increment();
                a.unlock(py);
            });
        }
    };
    let other = spawn(work(mutexes.clone()));
    work(mutexes.clone())();
    other.join().expect("it does not panic");
}

/// While the world is stopped a mutex is locked or it is not, and if not, its data are at rest (I3, I6).
pub(crate) fn stopped_world() {
    let counter = Counter::new();
    let others: Vec<_> = (0..2)
        .map(|_| {
            let counter = Rc::clone(&counter);
            spawn(move || counter.add_one())
        })
        .collect();
    stand_in::interpreter::stop_the_world(|| {
        let is_locked = counter.raw.is_locked();
        if !is_locked {
            let _ = counter.number();
        }
        // The collector comes by twice.
        loom::thread::yield_now();
        assert_eq!(counter.raw.is_locked(), is_locked);
    });
    for other in others {
        other.join().expect("it does not panic");
    }
    assert_eq!(counter.number(), 2);
}
