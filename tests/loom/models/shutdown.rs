//! Shutdown: attaching never returns but for the thread that finalises, which gets every lock that nobody owns, and is told of the others.

use std::{cell::Cell, rc::Rc, time::Duration};

use stand_in::{
    interpreter::{attach, detach, finalize},
    pyo3::Python,
    spawn, until,
};

use crate::{
    condvar::Tokens,
    mutex::Counter,
    once_lock, rwlock,
    wait::{Cause, Failure, Wait},
};

/// Whether the wait was refused, because of the shutdown.
fn is_refused<T>(result: Result<T, Failure>) -> bool {
    match result {
        Ok(_) => false,
        Err(Failure::Deadlock(error)) => {
            assert_eq!(error.cause, Cause::Finalizing);
            true
        }
        Err(_) => unreachable!("it has no limit"),
    }
}

/// Whether another thread is inside of a lock, or will be for ever.
#[derive(Clone, Default)]
struct Inside(Rc<Cell<bool>>);

impl Inside {
    /// Is inside, and away for a while.
    fn stay(&self, away: impl FnOnce()) {
        self.0.set(true);
        away();
        self.0.set(false);
    }
}

pub(crate) fn mutex() {
    let (counter, inside) = (Counter::new(), Inside::default());
    let other = {
        let (counter, inside) = (Rc::clone(&counter), inside.clone());
        spawn(move || {
            attach(|py| {
                let mut owned = counter.lock(py);
                inside.stay(|| detach(py, || ()));
                owned.increment();
            });
        })
    };
    attach(|py| {
        {
            // Meanwhile the other one falls asleep; and the mutex is reserved for it afterwards.
            let mut owned = counter.lock(py);
            detach(py, || ());
            owned.increment();
        }
        finalize(py, |py| {
            let is_owned = inside.0.get();
            assert_eq!(counter.try_lock(py).is_none(), is_owned);
            match counter.lock_or_told(py) {
                Ok(mut owned) => owned.increment(),
                Err(error) => assert_eq!(error.cause, Cause::Finalizing),
            }
            assert_eq!(counter.lock_or_told(py).is_err(), is_owned);
        });
    });
    other.join_or_hung();
}

/// The other thread waits for readers, or writes.
pub(crate) fn writer() {
    let (lock, inside) = (rwlock::Lock::new(), Inside::default());
    let other = {
        let (lock, inside) = (Rc::clone(&lock), inside.clone());
        spawn(move || attach(|py| lock.write(py, || inside.stay(|| detach(py, || ())))))
    };
    attach(|py| {
        lock.read(py, || detach(py, || ()));
        finalize_beside_writer(py, &lock, &inside);
    });
    other.join_or_hung();
}

/// The other thread waits for readers until its timeout expires, and writes later.
pub(crate) fn writer_that_timed_out() {
    let (lock, inside) = (rwlock::Lock::new(), Inside::default());
    let has_waited = Rc::new(Cell::new(false));
    let start = || {
        let (lock, inside) = (Rc::clone(&lock), inside.clone());
        let has_waited = Rc::clone(&has_waited);
        spawn(move || {
            attach(|py| {
                let wait = Wait::from(Duration::from_millis(1));
                let waited = lock.write_with(py, &wait, || ());
                assert!(matches!(waited, Err(Failure::TimedOut)));
                has_waited.set(true);
                lock.write(py, || inside.stay(|| detach(py, || ())));
            });
        })
    };
    let other = Cell::new(None);
    attach(|py| {
        lock.read(py, || {
            other.set(Some(start()));
            detach(py, || until(|| has_waited.get()));
        });
        finalize_beside_writer(py, &lock, &inside);
    });
    other.take().expect("it was started").join_or_hung();
}

fn finalize_beside_writer(py: Python<'_>, lock: &rwlock::Lock, inside: &Inside) {
    finalize(py, |py| {
        let is_written = inside.0.get();
        let is_read_refused = is_refused(lock.read_or_told(py, || ()));
        let written = lock.write_with(py, &Wait::FOREVER, || ());
        assert_eq!(
            (is_read_refused, is_refused(written)),
            (is_written, is_written),
            "at exit, a lock is refused if a detached thread writes, and acquired otherwise"
        );
    });
}

/// The other thread reads, or waits until this one does not write.
pub(crate) fn reader() {
    let (lock, inside) = (rwlock::Lock::new(), Inside::default());
    let other = {
        let (lock, inside) = (Rc::clone(&lock), inside.clone());
        spawn(move || {
            attach(|py| {
                lock.read(py, || inside.stay(|| detach(py, || ())));
            });
        })
    };
    attach(|py| {
        lock.write(py, || detach(py, || ()));
        finalize(py, |py| {
            let is_read = inside.0.get();
            assert!(!is_refused(lock.read_or_told(py, || ())));
            let written = lock.write_with(py, &Wait::FOREVER, || ());
            assert_eq!(is_refused(written), is_read);
        });
    });
    other.join_or_hung();
}

/// The other thread fills the cell.
pub(crate) fn initialiser() {
    let (cell, inside) = (once_lock::Lock::new(), Inside::default());
    let other = {
        let (cell, inside) = (Rc::clone(&cell), inside.clone());
        spawn(move || {
            attach(|py| {
                cell.init(py, || {
                    inside.stay(|| detach(py, || ()));
                    Some(1)
                })
            });
        })
    };
    attach(|py| {
        detach(py, || ());
        finalize(py, |py| {
            let is_running = inside.0.get();
            let waited = cell.wait_or_told(py);
            // Nobody else will fill it.
            assert_eq!(is_refused(waited), cell.get().is_none());
            assert_eq!(is_refused(cell.init_or_told(py, || Some(2))), is_running);
            cell.try_take_over(py, 3);
        });
    });
    other.join_or_hung();
}

/// The other thread waits to be notified.
pub(crate) fn condvar() {
    let tokens = Tokens::new();
    let other = tokens.taker();
    attach(|py| {
        tokens.put(py, 0);
        finalize(py, |py| {
            tokens.put(py, 1);
            tokens.wait_in_vain(py);
        });
    });
    other.join_or_hung();
}
