//! The cell: one value, made by one thread, which everybody sees whole.

use std::{cell::Cell, panic::Location, rc::Rc};

use loom::{cell::UnsafeCell, thread::JoinHandle};
use stand_in::{
    interpreter::{attach, detach},
    pyo3::Python,
    spawn,
};

use crate::{deadlock::LockKind, wait::Patience};

include!(concat!(env!("OUT_DIR"), "/once_lock.rs"));

use raw::{Begin, RawOnce, Running};

struct Lock {
    raw: RawOnce,
    value: UnsafeCell<u32>,
    /// How many initialisers have succeeded.
    made: Cell<u32>,
}

impl Lock {
    fn new() -> Rc<Self> {
        Rc::new(Lock {
            raw: RawOnce::new(),
            value: UnsafeCell::new(0),
            made: Cell::new(0),
        })
    }

    /// Initialises the cell with `make`, which fails if it gives nothing. Gives whether there is a value then.
    fn init(&self, py: Python<'_>, make: impl FnOnce() -> Option<u32>) -> bool {
        let begin = self.raw.begin(
            py,
            LockKind::OnceLock,
            Patience::Forever,
            Location::caller(),
        );
        let Ok(begin) = begin else {
            panic!("there is no deadlock");
        };
        match begin {
            Begin::Complete => {}
            Begin::Run(running) => match make() {
                Some(value) => {
                    self.complete(running, value);
                }
                None => return false,
            },
        }
        assert!(self.get().is_some());
        true
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
                let waited = lock.raw.wait(py, Patience::Forever, Location::caller());
                assert!(waited.is_ok());
                assert_eq!(lock.get(), Some(value));
            });
        })
    }

    fn complete(&self, running: Running<'_>, value: u32) -> bool {
        // SAFETY: it writes the value, and loom sees who else uses it.
        unsafe {
            running.complete(|| {
                self.value.with_mut(|place| *place = value);
                self.made.set(self.made.get() + 1);
            })
        }
    }

    fn get(&self) -> Option<u32> {
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
    other.join().expect("it does not panic");
    looks.join().expect("it does not panic");
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
    fails.join().expect("it does not panic");
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
    waits.join().expect("it does not panic");
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
    fails.join().expect("it does not panic");
    waits.join().expect("it does not panic");
    assert_eq!(lock.made.get(), 1);
}

/// An imported value comes while an initialiser runs: one of the two is stored, and nothing is written twice.
pub(crate) fn seize() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                if let Some(running) = lock.raw.seize(py) {
                    lock.complete(running, 1);
                }
                assert!(lock.get().is_some());
            });
        })
    };
    attach(|py| {
        let begin = lock.raw.begin(
            py,
            LockKind::OnceLock,
            Patience::Forever,
            Location::caller(),
        );
        if let Ok(Begin::Run(running)) = begin {
            detach(py, || ());
            lock.complete(running, 2);
        }
    });
    other.join().expect("it does not panic");
    assert_eq!(lock.made.get(), 1);
}
