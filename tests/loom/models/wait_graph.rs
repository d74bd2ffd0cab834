//! Deadlocks through locks of several kinds: one thread of a cycle is told, and nobody else.

use std::{cell::Cell, rc::Rc};

use stand_in::{
    interpreter::{attach, detach},
    spawn,
};

use crate::{
    error::DeadlockError,
    mutex::Counter,
    once_lock, rwlock,
    wait::{Cause, Failure, Wait},
};

/// How many threads were told, of a cycle of that length.
struct Told {
    links: usize,
    times: Cell<usize>,
}

impl Told {
    fn new(links: usize) -> Rc<Self> {
        Rc::new(Told {
            links,
            times: Cell::new(0),
        })
    }

    fn tell(&self, error: &DeadlockError) {
        assert_eq!(error.cause, Cause::Cycle);
        assert_eq!(error.edges, self.links);
        self.times.set(self.times.get() + 1);
    }

    fn note<T>(&self, result: Result<T, Failure>) {
        match result {
            Ok(_) => {}
            Err(Failure::Deadlock(deadlock)) => self.tell(&(&deadlock).into()),
            Err(_) => unreachable!("it has no limit"),
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.times.get() <= 1, "one thread of a cycle is told");
        }
    }
}

/// One thread has a mutex and wants to write, one reads and wants a cell, one fills the cell and wants the mutex.
pub(crate) fn three_kinds() {
    let (mutex, lock, cell) = (Counter::new(), rwlock::Lock::new(), once_lock::Lock::new());
    let told = Told::new(3);
    let reader = {
        let (lock, cell, told) = (Rc::clone(&lock), Rc::clone(&cell), Rc::clone(&told));
        spawn(move || {
            attach(|py| {
                lock.read(py, || {
                    detach(py, || ());
                    told.note(cell.init_or_told(py, || Some(1)));
                });
            });
        })
    };
    let initialiser = {
        let (mutex, cell, told) = (Rc::clone(&mutex), Rc::clone(&cell), Rc::clone(&told));
        spawn(move || {
            attach(|py| {
                cell.init(py, || {
                    detach(py, || ());
                    match mutex.lock_or_told(py) {
                        Ok(mut owned) => owned.increment(),
                        Err(error) => told.tell(&error),
                    }
                    Some(2)
                });
            });
        })
    };
    attach(|py| {
        let mut owned = mutex.lock(py);
        detach(py, || ());
        told.note(lock.write_with(py, &Wait::FOREVER, || ()));
        owned.increment();
    });
    reader.join();
    initialiser.join();
    assert!(cell.get().is_some());
}

/// Two threads read and want to write.
pub(crate) fn readers_that_write() {
    let lock = rwlock::Lock::new();
    let told = Rc::new(Cell::new(0));
    let work = || {
        let (lock, told) = (Rc::clone(&lock), Rc::clone(&told));
        move || {
            attach(|py| {
                lock.read(py, || {
                    detach(py, || ());
                    // It waits for itself at least.
                    let written = lock.write_with(py, &Wait::FOREVER, || ());
                    assert!(written.is_err());
                    told.set(told.get() + 1);
                });
            });
        }
    };
    let other = spawn(work());
    work()();
    other.join();
    assert_eq!(told.get(), 2);
}

/// A mutex and a read-write lock, taken in opposite orders.
pub(crate) fn mutex_and_rwlock() {
    let (mutex, lock) = (Counter::new(), rwlock::Lock::new());
    let told = Told::new(2);
    let other = {
        let (mutex, lock, told) = (Rc::clone(&mutex), Rc::clone(&lock), Rc::clone(&told));
        spawn(move || {
            attach(|py| {
                lock.read(py, || {
                    detach(py, || ());
                    match mutex.lock_or_told(py) {
                        Ok(mut owned) => owned.increment(),
                        Err(error) => told.tell(&error),
                    }
                });
            });
        })
    };
    attach(|py| {
        let mut owned = mutex.lock(py);
        detach(py, || ());
        told.note(lock.write_with(py, &Wait::FOREVER, || ()));
        owned.increment();
    });
    other.join();
}
