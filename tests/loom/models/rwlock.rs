//! The read-write lock: readers and writers never meet, and nobody sleeps for ever.

use std::{panic::Location, rc::Rc};

use loom::cell::UnsafeCell;
use stand_in::{
    interpreter::{attach, detach},
    pyo3::Python,
    spawn,
};

use crate::wait::Patience;

include!(concat!(env!("OUT_DIR"), "/rwlock.rs"));

use raw::RawRwLock;

struct Lock {
    raw: RawRwLock,
    number: UnsafeCell<u32>,
}

impl Lock {
    fn new() -> Rc<Self> {
        Rc::new(Lock {
            raw: RawRwLock::new(),
            number: UnsafeCell::new(0),
        })
    }

    fn read(&self, py: Python<'_>, meanwhile: impl FnOnce()) -> u32 {
        let entry = self.raw.read(py, || Patience::Forever, Location::caller());
        let Ok(entry) = entry else {
            panic!("there is no deadlock");
        };
        // SAFETY: loom sees whether somebody writes.
        let number = self.number.with(|number| unsafe { *number });
        meanwhile();
        // SAFETY: as above.
        assert_eq!(self.number.with(|number| unsafe { *number }), number);
        // SAFETY: not used any more.
        unsafe { self.raw.unlock_read(py, entry) };
        number
    }

    fn write(&self, py: Python<'_>, meanwhile: impl FnOnce()) {
        let written = self.raw.write(py, || Patience::Forever, Location::caller());
        assert!(written.is_ok(), "there is no deadlock");
        // SAFETY: loom sees whether somebody reads or writes.
        self.number.with_mut(|number| unsafe { *number += 1 });
        meanwhile();
        // SAFETY: this thread has locked it.
        unsafe { self.raw.unlock_write(py) };
    }
}

/// One reads and one writes.
pub(crate) fn exclusion() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.read(py, || ())))
    };
    attach(|py| lock.write(py, || ()));
    let read = other.join().expect("it does not panic");
    assert!(read <= 1);
}

/// The same with a reader that has read before: what was done for its first time does not help it any more.
pub(crate) fn second_read() {
    let lock = Lock::new();
    let other = {
        let (before, lock) = (Lock::new(), Rc::clone(&lock));
        spawn(move || {
            attach(|py| {
                before.read(py, || ());
                lock.read(py, || ())
            })
        })
    };
    attach(|py| lock.write(py, || ()));
    let read = other.join().expect("it does not panic");
    assert!(read <= 1);
}

/// The reader leaves while the writer falls asleep; it is detached meanwhile, so that this happens with a GIL too.
pub(crate) fn leaving() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.read(py, || detach(py, || ()))))
    };
    attach(|py| lock.write(py, || ()));
    other.join().expect("it does not panic");
}

/// A reader sleeps behind a writer, who is detached meanwhile and comes back to write once more.
pub(crate) fn writer_detaches() {
    let lock = Lock::new();
    let reader = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.read(py, || ())))
    };
    for _ in 0..2 {
        attach(|py| lock.write(py, || detach(py, || ())));
    }
    reader.join().expect("it does not panic");
    assert!(!lock.raw.has_owner());
}

/// A reader and a writer sleep behind a writer. Only with a GIL: threads that sleep for a limited time at once are more than loom can
/// take.
pub(crate) fn reader_sleeps() {
    let lock = Lock::new();
    let reader = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                lock.read(py, || ());
            });
        })
    };
    let writer = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.write(py, || ())))
    };
    attach(|py| lock.write(py, || detach(py, || ())));
    reader.join().expect("it does not panic");
    writer.join().expect("it does not panic");
    assert!(!lock.raw.has_owner());
}
