//! The read-write lock: exclusion, wake-ups, reservations, and attempts that fail.

use std::{cell::Cell, panic::Location, rc::Rc, time::Duration};

use loom::cell::UnsafeCell;
use stand_in::{
    JoinHandle, asleep, clock, execution,
    interpreter::{self, attach, detach},
    pyo3::Python,
    spawn, until,
};

use crate::{
    mutex::Counter,
    wait::{
        Failure, Wait,
        readers::{Entry, LockId},
    },
};

include!(concat!(env!("OUT_DIR"), "/rwlock.rs"));

use raw::RawRwLock;

/// A read-write lock around a number that loom watches.
pub(crate) struct Lock {
    raw: RawRwLock,
    number: UnsafeCell<u32>,
    /// The guards that exist, for assertions.
    held: Cell<Held>,
    /// Counts the acquisitions.
    acquired: Cell<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    Shared(u32),
    Exclusive,
}

const UNLOCKED: Held = Held::Shared(0);

impl Lock {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Lock {
            raw: RawRwLock::new(),
            number: UnsafeCell::new(0),
            held: Cell::new(UNLOCKED),
            acquired: Cell::new(0),
        })
    }

    pub(crate) fn read(&self, py: Python<'_>, meanwhile: impl FnOnce()) -> u32 {
        self.read_or_told(py, meanwhile)
            .unwrap_or_else(|_| panic!("no deadlock is reported"))
    }

    pub(crate) fn read_or_told(
        &self,
        py: Python<'_>,
        meanwhile: impl FnOnce(),
    ) -> Result<u32, Failure> {
        let entry = self.raw.read(py, &Wait::FOREVER, Location::caller())?;
        self.begin_read();
        let number = self.look(meanwhile);
        self.end_read();
        // SAFETY: The reference to the number is gone.
        unsafe { self.raw.unlock_read(py, entry) };
        Ok(number)
    }

    fn try_read(&self, py: Python<'_>) -> Option<u32> {
        self.try_read_and(py, || ())
    }

    fn try_read_and(&self, py: Python<'_>, meanwhile: impl FnOnce()) -> Option<u32> {
        let entry = self.raw.try_read(py)?;
        self.begin_read();
        let number = self.look(meanwhile);
        self.end_read();
        // SAFETY: The reference to the number is gone.
        unsafe { self.raw.unlock_read(py, entry) };
        Some(number)
    }

    pub(crate) fn write(&self, py: Python<'_>, meanwhile: impl FnOnce()) {
        let written = self.write_with(py, &Wait::FOREVER, meanwhile);
        assert!(written.is_ok(), "no deadlock is reported");
    }

    pub(crate) fn write_with(
        &self,
        py: Python<'_>,
        wait: &Wait,
        meanwhile: impl FnOnce(),
    ) -> Result<(), Failure> {
        self.raw.write(py, wait, Location::caller())?;
        self.begin_write();
        self.change(meanwhile);
        self.end_write();
        // SAFETY:
        // - This thread holds the lock exclusively.
        // - The reference to the number is gone.
        unsafe { self.raw.unlock_write(py) };
        Ok(())
    }

    fn try_write(&self, py: Python<'_>) -> bool {
        self.try_write_and(py, || ())
    }

    fn try_write_and(&self, py: Python<'_>, meanwhile: impl FnOnce()) -> bool {
        let written = self.raw.try_write(py, Location::caller());
        if written {
            self.begin_write();
            self.change(meanwhile);
            self.end_write();
            // SAFETY:
            // - This thread holds the lock exclusively.
            // - The reference to the number is gone.
            unsafe { self.raw.unlock_write(py) };
        }
        written
    }

    /// Writes, downgrades the lock, and reads.
    fn write_and_downgrade(&self, py: Python<'_>, write: impl FnOnce(), read: impl FnOnce()) {
        let written = self.raw.write(py, &Wait::FOREVER, Location::caller());
        assert!(written.is_ok(), "no deadlock is reported");
        self.begin_write();
        self.change(write);
        // SAFETY: No other thread writes.
        let before = self.number.with(|number| unsafe { *number });
        // Other readers may acquire the lock before `downgrade` returns.
        self.held.set(Held::Shared(1));
        // SAFETY:
        // - This thread holds the lock exclusively.
        // - The reference to the number is gone.
        let entry = unsafe { self.raw.downgrade(py) };
        let after = self.look(read);
        assert_eq!(after, before, "no writer comes between");
        self.end_read();
        // SAFETY: The reference to the number is gone.
        unsafe { self.raw.unlock_read(py, entry) };
    }

    fn begin_read(&self) {
        self.acquired.set(self.acquired.get() + 1);
        match self.held.get() {
            Held::Shared(readers) => self.held.set(Held::Shared(readers + 1)),
            Held::Exclusive => panic!("mutual exclusion: a reader beside a writer"),
        }
    }

    fn end_read(&self) {
        match self.held.get() {
            Held::Shared(readers) => self.held.set(Held::Shared(readers - 1)),
            Held::Exclusive => panic!("mutual exclusion: a writer beside a reader"),
        }
    }

    fn begin_write(&self) {
        self.acquired.set(self.acquired.get() + 1);
        assert_eq!(self.held.get(), UNLOCKED, "mutual exclusion of a writer");
        self.held.set(Held::Exclusive);
    }

    fn end_write(&self) {
        assert_eq!(
            self.held.get(),
            Held::Exclusive,
            "mutual exclusion of a writer"
        );
        self.held.set(UNLOCKED);
    }

    fn look(&self, meanwhile: impl FnOnce()) -> u32 {
        // SAFETY: loom reports a concurrent write.
        let number = self.number.with(|number| unsafe { *number });
        meanwhile();
        // SAFETY: As above.
        assert_eq!(self.number.with(|number| unsafe { *number }), number);
        number
    }

    fn change(&self, meanwhile: impl FnOnce()) {
        // SAFETY: loom reports a concurrent access.
        self.number.with_mut(|number| unsafe { *number += 1 });
        meanwhile();
    }

    /// Starts a thread that reads.
    fn reader(self: &Rc<Self>) -> JoinHandle<()> {
        let lock = Rc::clone(self);
        spawn(move || {
            attach(|py| {
                lock.read(py, || ());
            });
        })
    }

    /// Starts a thread that writes.
    fn writer(self: &Rc<Self>) -> JoinHandle<()> {
        let lock = Rc::clone(self);
        spawn(move || attach(|py| lock.write(py, || ())))
    }

    /// Writes, starts threads that wait for the lock, and unlocks it when `number` threads are
    /// parked and `waited` has passed.
    fn write_before<R>(
        &self,
        py: Python<'_>,
        number: usize,
        waited: Duration,
        start: impl FnOnce() -> R,
    ) -> R {
        let mut threads = None;
        self.write(py, || {
            threads = Some(start());
            detach(py, || until(|| asleep() == number));
            clock::advance(waited);
        });
        threads.expect("it has written")
    }

    /// Asserts that the lock is available, when no thread holds it or waits for it.
    fn assert_available(&self) {
        attach(|py| {
            assert!(
                self.try_write(py),
                "an unlocked lock without waiters is available to a writer"
            );
            assert!(
                self.try_read(py).is_some(),
                "an unlocked lock without waiters is available to a reader"
            );
        });
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

/// A thread reads, leaves, and reads the state of a module in the same slot.
pub(crate) fn read_then_state() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                let read = lock.read(py, || ());
                let entry = Entry::enter_if_light(py, LockId::new(), || true);
                entry.expect("it may read").leave();
                read
            })
        })
    };
    attach(|py| lock.write(py, || ()));
    let read = other.join();
    assert!(read <= 1);
}

/// A thread reads, leaves, and reads another lock in the same slot.
pub(crate) fn read_then_read() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || {
            attach(|py| {
                let read = lock.read(py, || ());
                let entry = Entry::enter_if(LockId::new(), || true);
                entry.expect("there is no owner").leave();
                read
            })
        })
    };
    attach(|py| lock.try_write(py));
    let read = other.join();
    assert!(read <= 1);
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
///
/// The writer blocks: a `try_write` scans twice, and the second scan would hide what the first one
/// missed.
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
    let written = Rc::new(Cell::new(false));
    let writer = {
        let (lock, written) = (Rc::clone(&lock), Rc::clone(&written));
        spawn(move || attach(|py| lock.write(py, || written.set(true))))
    };
    first.join();
    if again {
        short_lived().join();
    }
    assert!(!written.get(), "a scan missed a reader");
    // SAFETY: nothing refers to the number.
    attach(|py| unsafe { lock.raw.unlock_read(py, reading) });
    writer.join();
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

/// A write and a read cost as many accesses after the thread has read several locks at once as they
/// did before (I12). In the models a record has one slot.
pub(crate) fn former_reads_cost_nothing() {
    let (lock, others) = (Lock::new(), [Lock::new(), Lock::new(), Lock::new()]);
    let cost = || {
        let before = execution::accesses();
        attach(|py| {
            lock.write(py, || ());
            lock.read(py, || ());
        });
        execution::accesses() - before
    };
    cost();
    let before = cost();
    attach(|py| {
        others[0].read(py, || {
            others[1].read(py, || {
                others[2].read(py, || ());
            });
        });
    });
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
    lock.assert_available();
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
    lock.assert_available();
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
    lock.assert_available();
}

/// A writer waits for a reader, who is away for a while. If it gives up it leaves nothing behind.
fn gives_up(wait: fn() -> Wait) {
    let lock = Lock::new();
    let hasty = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.write_with(py, &wait(), || ()).is_ok()))
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

/// The waiting time of a thread that is not due.
const BRIEFLY: Duration = Duration::ZERO;

/// The waiting time of a thread that is due.
pub(crate) const DUE: Duration = Duration::from_millis(2);

/// Several threads wait for a writer.
fn waiters<const NUMBER: usize>(
    waited: Duration,
    start: fn(&Rc<Lock>) -> [JoinHandle<()>; NUMBER],
) {
    let lock = Lock::new();
    let others = attach(|py| {
        let others = lock.write_before(py, NUMBER, waited, || start(&lock));
        lock.raw.assert_waiters_are_announced();
        others
    });
    others.into_iter().for_each(JoinHandle::join);
    lock.assert_available();
}

fn two_writers(lock: &Rc<Lock>) -> [JoinHandle<()>; 2] {
    [lock.writer(), lock.writer()]
}

fn reader_and_two_writers(lock: &Rc<Lock>) -> [JoinHandle<()>; 3] {
    [lock.reader(), lock.writer(), lock.writer()]
}

pub(crate) fn three_writers() {
    waiters(BRIEFLY, two_writers);
}

pub(crate) fn three_writers_two_due() {
    waiters(DUE, two_writers);
}

pub(crate) fn reader_and_writers() {
    waiters(BRIEFLY, reader_and_two_writers);
}

pub(crate) fn reader_and_writers_due() {
    waiters(DUE, reader_and_two_writers);
}

/// A thread that reads reads once more, while a writer waits for it.
pub(crate) fn nested_read() {
    let lock = Lock::new();
    let writer = lock.writer();
    attach(|py| {
        lock.read(py, || {
            detach(py, || ());
            lock.read(py, || ());
        });
    });
    writer.join();
    lock.assert_available();
}

/// A thread tries to write while another one reads.
pub(crate) fn try_write() {
    let lock = Lock::new();
    let reader = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.read(py, || detach(py, || ()))))
    };
    let written = attach(|py| lock.try_write_and(py, || detach(py, || ())));
    let read = reader.join();
    assert!(read <= u32::from(written));
    lock.assert_available();
}

/// A thread tries to read while another one writes.
pub(crate) fn try_read() {
    let lock = Lock::new();
    let writer = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.write(py, || detach(py, || ()))))
    };
    let read = attach(|py| lock.try_read_and(py, || detach(py, || ())));
    writer.join();
    assert!(read.is_none_or(|number| number <= 1));
    lock.assert_available();
}

/// Two threads try to write.
pub(crate) fn two_try_write() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.try_write(py)))
    };
    let written = attach(|py| lock.try_write(py));
    assert!(
        other.join() | written,
        "one of two threads that try to write succeeds"
    );
    lock.assert_available();
}

/// A thread tries to read while another one tries to write. If both failed, they would keep each
/// other out.
pub(crate) fn try_read_and_try_write() {
    let lock = Lock::new();
    let other = {
        let lock = Rc::clone(&lock);
        spawn(move || attach(|py| lock.try_read(py).is_some()))
    };
    let written = attach(|py| lock.try_write(py));
    assert!(
        other.join() | written,
        "I11: of a try_read and a try_write, one succeeds"
    );
    lock.assert_available();
}

/// Two threads try to read and to write while a third one reads.
pub(crate) fn try_write_beside_reader() {
    let lock = Lock::new();
    attach(|py| {
        lock.read(py, || {
            let reader = {
                let lock = Rc::clone(&lock);
                spawn(move || attach(|py| lock.try_read(py).is_some()))
            };
            let writer = {
                let lock = Rc::clone(&lock);
                spawn(move || attach(|py| lock.try_write(py)))
            };
            detach(py, || {
                assert!(!writer.join(), "mutual exclusion: a writer beside a reader");
                assert!(
                    reader.join(),
                    "I11: a try_write that fails keeps no reader out"
                );
            });
        });
    });
    lock.assert_available();
}

/// A thread tries to read while a writer is parked until another thread has read.
pub(crate) fn try_read_beside_parked_writer() {
    let lock = Lock::new();
    let writer = Cell::new(None);
    attach(|py| {
        lock.read(py, || {
            writer.set(Some(lock.writer()));
            let other = {
                let lock = Rc::clone(&lock);
                spawn(move || {
                    until(|| asleep() == 1);
                    attach(|py| {
                        let read = lock.try_read(py).is_some();
                        assert!(
                            read || asleep() == 1,
                            "I11: a try_read that fails wakes no thread"
                        );
                    });
                })
            };
            detach(py, || other.join());
        });
    });
    writer.take().expect("it was started").join();
    lock.assert_available();
}

/// A thread downgrades the lock while another one waits to write.
pub(crate) fn downgrade() {
    let lock = Lock::new();
    let writer = lock.writer();
    attach(|py| lock.write_and_downgrade(py, || detach(py, || ()), || detach(py, || ())));
    writer.join();
    lock.assert_available();
}

/// A reader that waits for a writer acquires the lock when that one downgrades it.
pub(crate) fn downgrade_wakes_reader() {
    let lock = Lock::new();
    let reader = Cell::new(None);
    let start = || {
        reader.set(Some(lock.reader()));
        until(|| asleep() == 1);
    };
    let join = || reader.take().expect("it was started").join();
    attach(|py| lock.write_and_downgrade(py, || detach(py, start), || detach(py, join)));
    lock.assert_available();
}

/// A waiter that is due acquires the lock before a thread that tries to write later. The lock is
/// not reserved any more after that.
fn due(start: fn(&Rc<Lock>) -> JoinHandle<()>) {
    let lock = Lock::new();
    let waiter = attach(|py| {
        let waiter = lock.write_before(py, 1, DUE, || start(&lock));
        lock.try_write_and(py, || {
            // One of them is this one.
            let later = lock.acquired.get() - 1;
            assert_eq!(later, 2, "fairness: a waiter that is due comes first");
        });
        waiter
    });
    waiter.join();
    lock.assert_available();
}

pub(crate) fn due_reader() {
    due(Lock::reader);
}

pub(crate) fn due_writer() {
    due(Lock::writer);
}

/// A waiter that is due is unparked, and waits for a mutex before it acquires the lock. The owner
/// of the mutex acquires the lock first, when the reservation has expired.
fn expired(acquire: fn(&Lock, Python<'_>)) {
    let (lock, mutex) = (Lock::new(), Counter::new());
    let start = || {
        let (lock, mutex) = (Rc::clone(&lock), Rc::clone(&mutex));
        spawn(move || {
            attach(|py| {
                interpreter::on_attach(move |py| mutex.lock(py).increment());
                acquire(&lock, py);
            });
        })
    };
    let waiter = attach(|py| {
        let _owned = mutex.lock(py);
        let waiter = lock.write_before(py, 1, DUE, start);
        let written = lock.write_with(py, &Wait::from(LONG), || ());
        assert!(written.is_ok(), "bounded waiting: a reservation expires");
        waiter
    });
    waiter.join();
    lock.assert_available();
}

pub(crate) fn expired_for_reader() {
    expired(|lock, py| {
        lock.read(py, || ());
    });
}

pub(crate) fn expired_for_writer() {
    expired(|lock, py| lock.write(py, || ()));
}

/// Of two writers that wait for a third, one has a timeout.
pub(crate) fn writer_times_out() {
    let lock = Lock::new();
    let start = || {
        let hasty = {
            let lock = Rc::clone(&lock);
            let wait = || Wait::from(SHORT);
            spawn(move || attach(|py| lock.write_with(py, &wait(), || ()).is_ok()))
        };
        (hasty, lock.writer())
    };
    let (hasty, patient) = attach(|py| lock.write_before(py, 1, BRIEFLY, start));
    hasty.join();
    patient.join();
    lock.assert_available();
}

/// Several times as long as a reservation.
pub(crate) const LONG: Duration = Duration::from_millis(50);

const SHORT: Duration = Duration::from_millis(1);

pub(crate) fn limit() {
    gives_up(|| Wait::from(SHORT));
}

pub(crate) fn interrupt() {
    interpreter::raise_after(0);
    gives_up(|| Wait::new().interruptible());
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
