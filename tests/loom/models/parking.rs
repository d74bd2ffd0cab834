//! Parking: unrelated locks do not influence each other, and the user's token stays where it is.

use std::{
    cell::{Cell, OnceCell},
    panic::Location,
    rc::Rc,
    time::Duration,
};

use stand_in::{
    JoinHandle, asleep, clock, execution,
    interpreter::{attach, detach},
    spawn,
    std::thread::{self, Thread},
};

use crate::{
    mutex::Counter,
    wait::{Holders, LockKind, Role, Wait, Waiter, Word, unpark_one, unpark_one_fairly},
};

const KIND: &LockKind = &LockKind {
    name: "word",
    role: Role::Exclusive,
};

/// Two locks, whose waiters are in one queue.
struct Locks([Word; 3]);

impl Locks {
    fn new() -> Rc<Self> {
        let locks = Rc::new(Locks(std::array::from_fn(|_| Word::new(0))));
        // The build script assigns the two queues by the order in which locks are first used.
        for word in &locks.0 {
            execution::place_of(word.address() >> 3);
        }
        locks
    }

    fn first(&self) -> &Word {
        &self.0[0]
    }

    fn second(&self) -> &Word {
        &self.0[2]
    }
}

/// Starts threads that park, each once, for the lock that is named.
fn waiters(locks: &Rc<Locks>, names: &[fn(&Locks) -> &Word]) -> Vec<JoinHandle<()>> {
    let start = |name: &fn(&Locks) -> &Word| {
        let (locks, name) = (Rc::clone(locks), *name);
        spawn(move || {
            attach(|py| {
                let caller = Location::caller();
                let word = name(&locks);
                let mut waiter = Waiter::new(word, KIND, &Wait::FOREVER, caller);
                waiter.set_holders(Holders::Unknown);
                let slept = waiter.park(py, word.address(), None, || true);
                assert!(slept.is_ok());
            });
        })
    };
    names.iter().map(start).collect()
}

fn until_parked(threads: &[JoinHandle<()>]) {
    while asleep() < threads.len() {
        loom::thread::yield_now();
    }
}

/// Unparks the first waiter of the lock. Returns whether it was due.
fn is_due(word: &Word) -> bool {
    let mut is_due = false;
    unpark_one_fairly(word.address(), |front| {
        is_due = front.expect("a thread waits").is_due;
    });
    is_due
}

/// Longer than a thread waits until it is due.
const LONG: Duration = Duration::from_millis(2);

/// A fair unlock of one lock does not make another, with the same queue, unfair; nor does a wake-up
/// that is no unlock.
pub(crate) fn fair_unlocks_are_per_lock() {
    let locks = Locks::new();
    let threads = waiters(&locks, &[Locks::first, Locks::first, Locks::second]);
    until_parked(&threads);
    clock::advance(LONG);
    unpark_one(locks.first().address(), || ());
    assert!(is_due(locks.first()), "I12: a wake-up counts as fair");
    assert!(
        is_due(locks.second()),
        "I12: another lock's fair unlock counts"
    );
    threads.into_iter().for_each(JoinHandle::join);
}

/// Of two waiters that have waited for long, the lock is reserved for one at first.
pub(crate) fn fair_unlocks_are_rare() {
    let locks = Locks::new();
    let threads = waiters(&locks, &[Locks::first, Locks::first]);
    until_parked(&threads);
    clock::advance(LONG);
    assert!(is_due(locks.first()));
    assert!(!is_due(locks.first()), "one fair unlock follows another");
    threads.into_iter().for_each(JoinHandle::join);
}

/// A thread that waits for a mutex keeps the token of its `Thread::unpark` (I13).
pub(crate) fn users_token() {
    let counter = Counter::new();
    let (done, parks) = (
        Rc::new(Cell::new(false)),
        Rc::new(OnceCell::<Thread>::new()),
    );
    let other = {
        let (counter, done, parks) = (Rc::clone(&counter), Rc::clone(&done), Rc::clone(&parks));
        spawn(move || {
            assert!(parks.set(thread::current()).is_ok());
            while !done.get() {
                counter.add_one();
                thread::park();
            }
        })
    };
    while parks.get().is_none() {
        loom::thread::yield_now();
    }
    attach(|py| {
        let mut owned = counter.lock(py);
        detach(py, || ());
        owned.increment();
        done.set(true);
        parks.get().expect("it was set").unpark();
    });
    other.join();
}
