//! The cell: one value, made by one thread, which everybody sees whole.

use std::{cell::Cell, panic::Location, rc::Rc};

use loom::cell::UnsafeCell;
use stand_in::{
    JoinHandle, asleep,
    interpreter::{self, attach, detach},
    pyo3::Python,
    spawn, until,
};

use crate::wait::{Failure, Wait};

include!(concat!(env!("OUT_DIR"), "/once_lock.rs"));

use raw::{Begin, InitGuard, RawOnce};

pub(crate) struct Lock {
    raw: RawOnce,
    value: UnsafeCell<u32>,
    /// How many initialisers have succeeded.
    made: Cell<u32>,
}

impl Lock {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Lock {
            raw: RawOnce::new(),
            value: UnsafeCell::new(0),
            made: Cell::new(0),
        })
    }

    /// Initialises the cell with `make`, which fails if it gives nothing. Gives whether there is a value then.
    pub(crate) fn init(&self, py: Python<'_>, make: impl FnOnce() -> Option<u32>) -> bool {
        self.init_or_told(py, make)
            .unwrap_or_else(|_| panic!("there is no deadlock"))
    }

    pub(crate) fn init_or_told(
        &self,
        py: Python<'_>,
        make: impl FnOnce() -> Option<u32>,
    ) -> Result<bool, Failure> {
        let begin = self
            .raw
            .begin(py, raw::KIND, &Wait::FOREVER, Location::caller())?;
        match begin {
            Begin::Complete => {}
            Begin::Run(running) => match make() {
                Some(value) => {
                    self.complete(running, value);
                }
                None => return Ok(false),
            },
        }
        assert!(self.get().is_some());
        Ok(true)
    }

    pub(crate) fn wait_or_told(&self, py: Python<'_>) -> Result<(), Failure> {
        self.raw.wait(py, &Wait::FOREVER, Location::caller())
    }

    /// Fills the cell, unless it has a value, whoever is about to.
    pub(crate) fn try_take_over(&self, py: Python<'_>, value: u32) {
        if let Some(turn) = self.raw.try_take_over(py) {
            self.complete(turn, value);
        }
        assert!(self.get().is_some());
    }

    fn init_after_a_pause(&self, value: u32) {
        attach(|py| {
            let succeeded = self.init(py, || {
                detach(py, || ());
                Some(value)
            });
            assert!(succeeded);
        });
    }

    fn wait_for(self: &Rc<Self>, value: u32) -> JoinHandle<()> {
        let lock = Rc::clone(self);
        spawn(move || {
            attach(|py| {
                let waited = lock.raw.wait(py, &Wait::FOREVER, Location::caller());
                assert!(waited.is_ok());
                assert_eq!(lock.get(), Some(value));
            });
        })
    }

    fn complete(&self, running: InitGuard<'_>, value: u32) -> bool {
        // SAFETY: it writes the value, and loom sees who else uses it.
        unsafe {
            running.complete(|| {
                self.value.with_mut(|place| *place = value);
                self.made.set(self.made.get() + 1);
            })
        }
    }

    pub(crate) fn get(&self) -> Option<u32> {
        // SAFETY: loom sees who else uses it.
        let read = || self.value.with(|value| unsafe { *value });
        self.raw.is_complete().then(read)
    }
}

/// Two threads with an initialiser that detaches, and a third that only looks, attached or not.
pub(crate) fn exactly_once() {
    let lock = Lock::new();
    let init = |value| {
        let lock = Rc::clone(&lock);
        move || {
            attach(|py| {
                lock.init(py, || {
                    detach(py, || ());
                    Some(value)
                })
            })
        }
    };
    let other = spawn(init(1));
    let looks = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            if let Some(value) = lock.get() {
                assert_ne!(value, 0);
            }
        })
    };
    init(2)();
    let value = lock.get();
    other.join();
    looks.join();
    assert_eq!(lock.made.get(), 1);
    assert_eq!(lock.get(), value);
}

/// One initialiser fails: then the other one's turn has come.
pub(crate) fn failure() {
    let lock = Lock::new();
    let fails = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                lock.init(py, || {
                    detach(py, || ());
                    None
                });
            });
        })
    };
    lock.init_after_a_pause(7);
    fails.join();
    assert_eq!(lock.made.get(), 1);
}

/// A thread that has no initialiser waits, also when one fails before another one does not.
pub(crate) fn waiting() {
    let lock = Lock::new();
    let waits = lock.wait_for(7);
    attach(|py| {
        lock.init(py, || {
            detach(py, || ());
            None
        })
    });
    lock.init_after_a_pause(7);
    waits.join();
    assert_eq!(lock.made.get(), 1);
}

/// The same with a thread each. Only with a GIL: threads that spin at the same time are more than loom can take.
pub(crate) fn waiting_with_failure() {
    let lock = Lock::new();
    let waits = lock.wait_for(7);
    let fails = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                lock.init(py, || {
                    detach(py, || ());
                    None
                });
            });
        })
    };
    lock.init_after_a_pause(7);
    fails.join();
    waits.join();
    assert_eq!(lock.made.get(), 1);
}

/// Two threads wait for an initializer. When it has succeeded, both are unparked.
fn completion(start: impl Fn(&Rc<Lock>) -> JoinHandle<()>) {
    let lock = Lock::new();
    let mut waiters = Vec::new();
    attach(|py| {
        lock.init(py, || {
            waiters.extend([start(&lock), start(&lock)]);
            detach(py, || until(|| asleep() == 2));
            Some(7)
        })
    });
    waiters.into_iter().for_each(JoinHandle::join);
    assert_eq!(lock.made.get(), 1);
}

pub(crate) fn completion_wakes_initializers() {
    completion(|lock| {
        let lock = Rc::clone(lock);
        spawn(move || lock.init_after_a_pause(8))
    });
}

pub(crate) fn completion_wakes_waiters() {
    completion(|lock| lock.wait_for(7));
}

/// An imported value comes while an initialiser runs: one of the two is stored, and nothing is written twice.
pub(crate) fn try_take_over() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                lock.try_take_over(py, 1);
            });
        })
    };
    attach(|py| {
        let begin = lock
            .raw
            .begin(py, raw::KIND, &Wait::FOREVER, Location::caller());
        if let Ok(Begin::Run(running)) = begin {
            detach(py, || ());
            lock.complete(running, 2);
        }
    });
    other.join();
    assert_eq!(lock.made.get(), 1);
}

/// While the world is stopped a cell has a value or it has none.
pub(crate) fn stopped_world() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || lock.init_after_a_pause(7))
    };
    interpreter::stop_the_world(|| {
        let passes = [(), ()].map(|()| {
            let value = lock.get();
            loom::thread::yield_now();
            value
        });
        assert_eq!(passes[0], passes[1], "I6: one answer for the whole stop");
        assert!(passes[0].is_none_or(|value| value == 7));
    });
    other.join();
}
