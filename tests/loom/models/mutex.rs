//! The mutex: nobody else is in it, nobody sleeps for ever, and what cannot end is reported.

use std::{cell::Cell, rc::Rc, time::Duration};

use loom::cell::UnsafeCell;
use stand_in::{
    JoinHandle, asleep, clock,
    interpreter::{self, attach, detach},
    pyo3::{Python, pyclass::PyVisit},
    spawn, until,
};

use crate::{
    error::DeadlockError,
    once_lock,
    rwlock::{self, DUE, LONG},
    wait::{Cause, Wait},
};

include!(concat!(env!("OUT_DIR"), "/mutex.rs"));

pub(crate) use subject::{PyMutex, PyMutexGuard};

/// A mutex with a number in it, which loom watches.
#[derive(Default)]
pub(crate) struct Counter(PyMutex<UnsafeCell<u32>>);

impl Counter {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(crate) fn lock_or_told<'a>(&'a self, py: Python<'a>) -> Result<Owned<'a>, DeadlockError> {
        self.0.lock_checked(py).map(Owned)
    }

    pub(crate) fn lock<'a>(&'a self, py: Python<'a>) -> Owned<'a> {
        self.lock_or_told(py).expect("there is no deadlock")
    }

    pub(crate) fn try_lock<'a>(&'a self, py: Python<'a>) -> Option<Owned<'a>> {
        self.0.try_lock(py).map(Owned)
    }

    pub(crate) fn lock_in_time<'a>(&'a self, py: Python<'a>, limit: Duration) -> Option<Owned<'a>> {
        self.0.lock_with(py, limit).ok().map(Owned)
    }

    pub(crate) fn lock_interruptibly<'a>(&'a self, py: Python<'a>) -> Option<Owned<'a>> {
        self.0
            .lock_with(py, Wait::new().interruptible())
            .ok()
            .map(Owned)
    }

    pub(crate) fn add_one(&self) {
        attach(|py| self.lock(py).increment());
    }

    /// When all is over.
    pub(crate) fn number(&self) -> u32 {
        assert!(!self.0.is_locked());
        attach(|py| self.lock(py).number())
    }
}

/// The right to use the number.
pub(crate) struct Owned<'a>(pub(crate) PyMutexGuard<'a, UnsafeCell<u32>>);

impl Owned<'_> {
    pub(crate) fn increment(&mut self) {
        // SAFETY: loom sees whether somebody else uses it.
        self.0.with_mut(|number| unsafe { *number += 1 });
    }

    pub(crate) fn number(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|number| unsafe { *number })
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
        other.join();
    }
    assert_eq!(counter.number(), threads);
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
            let mut owned = counter.lock(py);
            owned.increment();
            detach(py, || ());
            owned.increment();
        });
    }
    other.join();
    assert_eq!(counter.number(), 5);
}

/// Locks a mutex, starts a thread that waits for it, and unlocks the mutex when that one is due.
fn lock_until_due(
    counter: &Counter,
    py: Python<'_>,
    start: impl FnOnce() -> JoinHandle<()>,
) -> JoinHandle<()> {
    let mut owned = counter.lock(py);
    let waiter = start();
    detach(py, || until(|| asleep() == 1));
    clock::advance(DUE);
    owned.increment();
    waiter
}

/// A waiter that is due acquires the mutex before a thread that tries to lock it later.
pub(crate) fn due_waiter() {
    let counter = Counter::new();
    let start = || {
        let counter = Rc::clone(&counter);
        spawn(move || counter.add_one())
    };
    let waiter = attach(|py| {
        let waiter = lock_until_due(&counter, py, start);
        if let Some(owned) = counter.try_lock(py) {
            assert_eq!(
                owned.number(),
                2,
                "fairness: a waiter that is due comes first"
            );
        }
        waiter
    });
    waiter.join();
    assert_eq!(counter.number(), 2);
}

/// A waiter that is due is unparked, and waits for a second mutex before it acquires the first. The
/// owner of the second acquires the first when the reservation has expired.
pub(crate) fn expired_reservation() {
    let [first, second] = [Counter::new(), Counter::new()];
    let start = || {
        let [first, second] = [Rc::clone(&first), Rc::clone(&second)];
        spawn(move || {
            attach(|py| {
                interpreter::on_attach(move |py| second.lock(py).increment());
                first.lock(py).increment();
            });
        })
    };
    let waiter = attach(|py| {
        let _owned = second.lock(py);
        let waiter = lock_until_due(&first, py, start);
        let owned = first.lock_in_time(py, LONG);
        owned
            .expect("bounded waiting: a reservation expires")
            .increment();
        waiter
    });
    waiter.join();
    assert_eq!((first.number(), second.number()), (3, 1));
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
                let mut first = first.lock(py);
                // So that the others have their first, with a GIL too.
                detach(py, || ());
                match second.lock_or_told(py) {
                    Ok(mut second) => second.increment(),
                    Err(error) => {
                        assert_eq!(error.cause, Cause::Cycle);
                        assert_eq!(error.edges, number);
                        told.set(told.get() + 1);
                    }
                }
                first.increment();
            });
        }
    };
    let others: Vec<_> = (1..number).map(|place| spawn(work(place))).collect();
    work(0)();
    for other in others {
        other.join();
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
                let first = a.lock(py);
                let mut second = b.lock(py);
                drop(first);
                second.increment();
                drop(second);
                a.lock(py).increment();
            });
        }
    };
    let other = spawn(work(mutexes.clone()));
    work(mutexes.clone())();
    other.join();
}

/// A destructor that runs when a thread attaches after its wait takes another mutex and keeps it for a while. Whoever has the first one
/// by then, and wants the second, waits for that thread, and not in a circle: the first wait is over.
pub(crate) fn attaching_runs_code() {
    let [a, b] = [Counter::new(), Counter::new()];
    let other = {
        let [a, b] = [Rc::clone(&a), Rc::clone(&b)];
        spawn(move || {
            attach(|py| {
                interpreter::on_attach(move |py| {
                    let mut owned = b.lock(py);
                    detach(py, || ());
                    owned.increment();
                });
                a.lock(py).increment();
                // If it has not waited.
                detach(py, || ());
            });
        })
    };
    attach(|py| {
        {
            let _first = a.lock(py);
            detach(py, || ());
        }
        let _first = a.lock(py);
        b.lock(py).increment();
    });
    other.join();
    assert_eq!((a.number(), b.number()), (1, 2));
}

/// Long enough to fall asleep, and as long as nothing else takes.
const SHORT: Duration = Duration::from_millis(1);

/// The owner is away for a while, so many times. Of those who want the mutex meanwhile, the one that `waits` may give up, and the other must get it all
/// the same.
fn gives_up(turns: u32, waits: fn(&Counter, Python<'_>) -> bool) {
    let counter = Counter::new();
    let gives_up = {
        let counter = Rc::clone(&counter);
        spawn(move || attach(|py| waits(&counter, py)))
    };
    let patient = {
        let counter = Rc::clone(&counter);
        spawn(move || counter.add_one())
    };
    attach(|py| {
        for _ in 0..turns {
            let mut owned = counter.lock(py);
            detach(py, || ());
            owned.increment();
        }
    });
    patient.join();
    let got_it = gives_up.join();
    assert_eq!(counter.number(), turns + 1 + u32::from(got_it));
}

pub(crate) fn limit() {
    gives_up(1, |counter, py| {
        let owned = counter.lock_in_time(py, SHORT);
        owned.map(|mut owned| owned.increment()).is_some()
    });
}

fn is_interrupted(turns: u32) {
    interpreter::raise_after(1);
    gives_up(turns, |counter, py| {
        let owned = counter.lock_interruptibly(py);
        owned.map(|mut owned| owned.increment()).is_some()
    });
}

pub(crate) fn interrupt() {
    is_interrupted(1);
}

/// The owner comes back before the one that it woke, who gives up then: others still sleep.
pub(crate) fn woken_and_interrupted() {
    is_interrupted(2);
}

/// A thread gives up waiting in the middle of what would have become a cycle: whoever is told of it is told before.
pub(crate) fn given_up_wait() {
    let [a, b] = [Counter::new(), Counter::new()];
    let given_up = Rc::new(Cell::new(false));
    interpreter::raise_after(1);
    let other = {
        let ([a, b], given_up) = ([Rc::clone(&a), Rc::clone(&b)], Rc::clone(&given_up));
        spawn(move || {
            attach(|py| {
                let mut second = b.lock(py);
                if let Some(mut first) = a.lock_interruptibly(py) {
                    first.increment();
                } else {
                    given_up.set(true);
                }
                detach(py, || ());
                second.increment();
            });
        })
    };
    attach(|py| {
        let _first = a.lock(py);
        // Twice: the other thread sleeps before it looks for signals again.
        detach(py, || ());
        detach(py, || ());
        let may_be_told = !given_up.get();
        let is_told = b.lock_or_told(py).is_err();
        assert!(may_be_told || !is_told, "the other thread does not wait");
    });
    other.join();
}

/// While the world is stopped a mutex is locked or it is not, and if not, its data are at rest (I3, I6).
pub(crate) fn stopped_world() {
    let counter = Counter::new();
    let is_owned = Rc::new(Cell::new(false));
    let other = {
        let counter = Rc::clone(&counter);
        spawn(move || counter.add_one())
    };
    let is_away = {
        let (counter, is_owned) = (Rc::clone(&counter), Rc::clone(&is_owned));
        spawn(move || {
            attach(|py| {
                let mut owned = counter.lock(py);
                is_owned.set(true);
                detach(py, || ());
                is_owned.set(false);
                owned.increment();
            });
        })
    };
    interpreter::stop_the_world(|| {
        // The collector comes by twice, and keeps what it was given all that time.
        let visit = PyVisit::new();
        let passes = [(), ()].map(|()| {
            let data = counter.0.traverse(&visit);
            assert!(data.is_none() || !is_owned.get(), "an owner has the data");
            loom::thread::yield_now();
            // SAFETY: loom sees whether somebody writes.
            data.map(|number| number.with(|number| unsafe { *number }))
        });
        assert_eq!(passes[0], passes[1], "I6: one answer for the whole stop");
    });
    other.join();
    is_away.join();
    assert_eq!(counter.number(), 2);
}

/// Where nobody is in the way, nobody detaches (I2).
pub(crate) fn alone() {
    let (counter, lock, cell) = (Counter::new(), rwlock::Lock::new(), once_lock::Lock::new());
    attach(|py| {
        counter.lock(py).increment();
        assert!(counter.try_lock(py).is_some());
        lock.read(py, || ());
        lock.write(py, || ());
        assert!(cell.init(py, || Some(1)));
        assert!(cell.init(py, || unreachable!("it has a value")));
        assert_eq!(interpreter::detachments(), 0, "I2: nobody has to wait");
    });
}

/// A woken thread finds the mutex taken again, and runs a signal handler before it sleeps again. The handler needs what another sleeper has.
pub(crate) fn woken_runs_a_handler() {
    let [m, k] = [Counter::new(), Counter::new()];
    {
        let k = Rc::clone(&k);
        interpreter::handle_after(1, move |py| k.lock(py).increment());
    }
    let interruptible = {
        let m = Rc::clone(&m);
        spawn(move || {
            attach(|py| {
                m.lock_interruptibly(py)
                    .expect("nothing is raised")
                    .increment();
            });
        })
    };
    let patient = {
        let [m, k] = [Rc::clone(&m), Rc::clone(&k)];
        spawn(move || {
            attach(|py| {
                let mut first = k.lock(py);
                m.lock(py).increment();
                first.increment();
            });
        })
    };
    attach(|py| {
        for _ in 0..2 {
            let mut owned = m.lock(py);
            detach(py, || ());
            owned.increment();
        }
    });
    interruptible.join();
    patient.join();
    assert_eq!(m.number(), 4);
}
