//! The read-write lock: readers and writers never meet, and nobody sleeps for ever.

use std::{panic::Location, rc::Rc, time::Duration};

use loom::cell::UnsafeCell;
use stand_in::{
    execution,
    interpreter::{self, attach, detach},
    pyo3::Python,
    spawn,
};

use crate::wait::{
    Patience, Refusal,
    readers::{Entry, LockId},
};

include!(concat!(env!("OUT_DIR"), "/rwlock.rs"));

use raw::RawRwLock;

pub(crate) struct Lock {
    raw: RawRwLock,
    number: UnsafeCell<u32>,
}

impl Lock {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Lock {
            raw: RawRwLock::new(),
            number: UnsafeCell::new(0),
        })
    }

    pub(crate) fn read(&self, py: Python<'_>, meanwhile: impl FnOnce()) -> u32 {
        self.read_or_told(py, meanwhile)
            .unwrap_or_else(|_| panic!("there is no deadlock"))
    }

    pub(crate) fn read_or_told(
        &self,
        py: Python<'_>,
        meanwhile: impl FnOnce(),
    ) -> Result<u32, Refusal> {
        let entry = self
            .raw
            .read(py, || Patience::Forever, Location::caller())?;
        // SAFETY: loom sees whether somebody writes.
        let number = self.number.with(|number| unsafe { *number });
        meanwhile();
        // SAFETY: as above.
        assert_eq!(self.number.with(|number| unsafe { *number }), number);
        // SAFETY: not used any more.
        unsafe { self.raw.unlock_read(py, entry) };
        Ok(number)
    }

    /// Returns the number, or `None` if the attempt failed.
    fn try_read(&self, py: Python<'_>) -> Option<u32> {
        let entry = self.raw.try_read(py)?;
        // SAFETY: loom sees whether another thread writes.
        let number = self.number.with(|number| unsafe { *number });
        // SAFETY: the number is not used any more.
        unsafe { self.raw.unlock_read(py, entry) };
        Some(number)
    }

    /// Returns whether it wrote.
    fn try_write(&self, py: Python<'_>) -> bool {
        let locked = self.raw.try_write(py, Location::caller());
        if locked {
            // SAFETY: loom sees whether another thread reads or writes.
            self.number.with_mut(|number| unsafe { *number += 1 });
            // SAFETY: this thread has locked it.
            unsafe { self.raw.unlock_write(py) };
        }
        locked
    }

    pub(crate) fn write(&self, py: Python<'_>, meanwhile: impl FnOnce()) {
        let written = self.write_patiently(py, Patience::Forever, meanwhile);
        assert!(written.is_ok(), "there is no deadlock");
    }

    pub(crate) fn write_patiently(
        &self,
        py: Python<'_>,
        patience: Patience,
        meanwhile: impl FnOnce(),
    ) -> Result<(), Refusal> {
        self.raw.write(py, || patience, Location::caller())?;
        // SAFETY: loom sees whether somebody reads or writes.
        self.number.with_mut(|number| unsafe { *number += 1 });
        meanwhile();
        // SAFETY: this thread has locked it.
        unsafe { self.raw.unlock_write(py) };
        Ok(())
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
    let read = other.join();
    assert!(read <= 1);
}

/// A thread reads, leaves, and reads another lock, or the state of a module, in the same slot.
fn reads_in_turn(then: impl FnOnce(Python<'_>) + 'static) {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                let read = lock.read(py, || ());
                then(py);
                read
            })
        })
    };
    attach(|py| lock.write(py, || ()));
    let read = other.join();
    assert!(read <= 1);
}

pub(crate) fn read_then_state() {
    reads_in_turn(|_| {
        Entry::without_fence(LockId::new()).leave();
    });
}

pub(crate) fn read_then_read() {
    let second = Lock::new();
    reads_in_turn(move |py| {
        second.read(py, || ());
    });
}

/// Two attempts exclude each other, and one succeeds: a reader that withdraws refuses no writer.
pub(crate) fn attempts() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.try_read(py)))
    };
    let written = attach(|py| {
        lock.write(py, || ());
        lock.try_write(py)
    });
    let read = other.join();
    assert!(written || read.is_some(), "I11: neither attempt succeeded");
    assert!(!lock.raw.has_owner() && !lock.raw.has_readers());
    assert!(
        attach(|py| lock.try_write(py)),
        "I11: an attempt left a trace"
    );
}

/// One thread tries to write, and another one tries to read twice: an attempt to write that fails
/// refuses no reader.
pub(crate) fn attempt_that_fails() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.try_read(py).is_some() & lock.try_read(py).is_some()))
    };
    let written = attach(|py| lock.try_write(py));
    let read = other.join();
    assert!(written || read, "I11: refused by an attempt that failed");
    assert!(
        attach(|py| lock.try_write(py)),
        "I11: an attempt left a trace"
    );
}

/// A reader ends, which unlinks its record: a writer acquires its reads without seeing the record.
pub(crate) fn reader_ends() {
    let (lock, before) = (Lock::new(), Lock::new());
    let reader = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.read(py, || ())))
    };
    attach(|py| {
        before.read(py, || ());
        lock.write(py, || ());
    });
    assert!(reader.join() <= 1);
}

/// A scan finds a reader while another record is unlinked, and linked again if `again`.
fn scans(again: bool) {
    let (lock, other) = (Lock::new(), Lock::new());
    let reading = attach(|py| lock.raw.try_read(py)).expect("no thread writes");
    let short_lived = || {
        let other = Rc::clone(&other);
        spawn(move || {
            attach(|py| {
                other.read(py, || ());
            });
        })
    };
    let first = short_lived();
    let writer = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.try_write(py)))
    };
    first.join();
    if again {
        short_lived().join();
    }
    assert!(!writer.join(), "a scan missed a reader");
    // SAFETY: nothing refers to the number.
    attach(|py| unsafe { lock.raw.unlock_read(py, reading) });
}

pub(crate) fn unlinked_during_scan() {
    scans(false);
}

pub(crate) fn linked_again_during_scan() {
    scans(true);
}

/// A write costs as many accesses after a reader has ended as it did before (I12).
pub(crate) fn ended_threads_cost_nothing() {
    let (lock, other) = (Lock::new(), Lock::new());
    let cost = || {
        let before = execution::accesses();
        attach(|py| lock.write(py, || ()));
        execution::accesses() - before
    };
    cost();
    let before = cost();
    for _ in 0..2 {
        let other = Rc::clone(&other);
        let read = spawn(move || attach(|py| other.read(py, || ())));
        read.join();
    }
    assert_eq!(cost(), before);
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
    let read = other.join();
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
    other.join();
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
    reader.join();
    assert!(!lock.raw.has_owner());
}

/// A writer sleeps behind a writer who is away.
pub(crate) fn writer_and_writer() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.write(py, || ())))
    };
    attach(|py| lock.write(py, || detach(py, || ())));
    other.join();
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
    reader.join();
    writer.join();
    assert!(!lock.raw.has_owner());
}

/// A writer waits for a reader, who is away for a while. If it gives up it leaves nothing behind.
fn gives_up(patience: fn() -> Patience) {
    let lock = Lock::new();
    let hasty = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.write_patiently(py, patience(), || ()).is_ok()))
    };
    let read = attach(|py| {
        let read = lock.read(py, || detach(py, || ()));
        lock.write(py, || ());
        read
    });
    let written = hasty.join();
    let in_the_end = attach(|py| lock.read(py, || ()));
    assert!(read <= in_the_end);
    assert_eq!(in_the_end, 1 + u32::from(written));
}

const SHORT: Duration = Duration::from_millis(1);

pub(crate) fn limit() {
    gives_up(|| Patience::for_duration(SHORT));
}

pub(crate) fn interrupt() {
    interpreter::raise_after(0);
    gives_up(|| Patience::Interruptible);
}

/// While the world is stopped nobody writes, or somebody writes all the time.
pub(crate) fn stopped_world() {
    let lock = Lock::new();
    let writer = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.write(py, || ())))
    };
    let reader = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                lock.read(py, || ());
            });
        })
    };
    interpreter::stop_the_world(|| {
        let passes = [(), ()].map(|()| {
            let is_at_rest = !lock.raw.has_owner();
            loom::thread::yield_now();
            // SAFETY: loom sees whether somebody writes.
            is_at_rest.then(|| lock.number.with(|number| unsafe { *number }))
        });
        assert_eq!(passes[0], passes[1], "I6: one answer for the whole stop");
    });
    writer.join();
    reader.join();
}
