//! The condition variable: no notification is lost, and whoever comes back owns the mutex.

use std::{cell::Cell, rc::Rc, time::Duration};

use loom::cell::UnsafeCell;
use stand_in::{
    JoinHandle, asleep,
    interpreter::{self, attach, detach},
    pyo3::Python,
    spawn, until,
};

use crate::{
    mutex::{PyMutex, PyMutexGuard},
    wait::{Cause, Wait},
};

include!(concat!(env!("OUT_DIR"), "/condvar.rs"));

pub(crate) use subject::PyCondvar;

/// Tokens that are put and taken. loom watches the number.
#[derive(Default)]
pub(crate) struct Tokens {
    number: PyMutex<UnsafeCell<u32>>,
    changed: PyCondvar,
    taken: Cell<u32>,
}

type Guard<'a> = PyMutexGuard<'a, UnsafeCell<u32>>;

fn number(guard: &Guard<'_>) -> u32 {
    // SAFETY: loom sees whether somebody else uses it.
    guard.with(|number| unsafe { *number })
}

fn set(guard: &mut Guard<'_>, value: u32) {
    // SAFETY: as above.
    guard.with_mut(|number| unsafe { *number = value });
}

impl Tokens {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(crate) fn put(&self, py: Python<'_>, more: u32) {
        let mut guard = self.number.lock(py);
        let now = number(&guard);
        set(&mut guard, now + more);
    }

    fn take(&self, guard: &mut Guard<'_>) {
        let now = number(guard);
        set(guard, now - 1);
        self.taken.set(self.taken.get() + 1);
    }

    /// Waits for a token.
    fn wait_and_take(&self) {
        attach(|py| {
            let mut guard = self.number.lock(py);
            while number(&guard) == 0 {
                self.changed.wait(&mut guard);
            }
            self.take(&mut guard);
        });
    }

    /// Waits to be notified while the interpreter shuts down: that is refused, and the mutex is locked again.
    pub(crate) fn wait_in_vain(&self, py: Python<'_>) {
        let mut guard = self.number.lock(py);
        let error = self.changed.wait_checked(&mut guard);
        assert_eq!(
            error.expect_err("nobody can notify").cause,
            Cause::Finalizing
        );
        let now = number(&guard);
        set(&mut guard, now);
    }

    /// Lets another thread wait for a token.
    pub(crate) fn taker(self: &Rc<Self>) -> JoinHandle<()> {
        let tokens = Rc::clone(self);
        spawn(move || tokens.wait_and_take())
    }
}

/// One waits and one notifies, after the change and without the mutex.
pub(crate) fn notification() {
    let tokens = Tokens::new();
    let waits = tokens.taker();
    attach(|py| {
        tokens.put(py, 1);
        tokens.changed.notify_one();
    });
    waits.join();
    assert_eq!(tokens.taken.get(), 1);
}

/// The same, with a thread that is not attached when it notifies.
pub(crate) fn notified_by_detached() {
    let tokens = Tokens::new();
    let waits = tokens.taker();
    attach(|py| tokens.put(py, 1));
    tokens.changed.notify_one();
    waits.join();
    assert_eq!(tokens.taken.get(), 1);
}

/// Two wait, and there are two tokens with a notification for each.
pub(crate) fn notifications_for_two() {
    let tokens = Tokens::new();
    let others = [tokens.taker(), tokens.taker()];
    for _ in 0..2 {
        attach(|py| {
            tokens.put(py, 1);
            tokens.changed.notify_one();
        });
    }
    others.into_iter().for_each(JoinHandle::join);
    assert_eq!(tokens.taken.get(), 2);
}

/// Two wait, and one notification is for both.
pub(crate) fn notification_for_all() {
    let tokens = Tokens::new();
    let others = [tokens.taker(), tokens.taker()];
    attach(|py| {
        tokens.put(py, 2);
        tokens.changed.notify_all();
    });
    others.into_iter().for_each(JoinHandle::join);
    assert_eq!(tokens.taken.get(), 2);
}

/// Of two that sleep one notification wakes one.
pub(crate) fn one_of_two() {
    let tokens = Tokens::new();
    let others = [(), ()].map(|()| {
        let tokens = Rc::clone(&tokens);
        spawn(move || {
            attach(|py| {
                let mut guard = tokens.number.lock(py);
                tokens.changed.wait(&mut guard);
                tokens.taken.set(tokens.taken.get() + 1);
            });
        })
    });
    until(|| asleep() == 2);
    // Whoever notifies has locked the mutex since the other thread began to wait.
    attach(|py| drop(tokens.number.lock(py)));
    tokens.changed.notify_one();
    until(|| tokens.taken.get() > 0);
    assert_eq!(asleep(), 1, "a notification wakes one");
    tokens.changed.notify_one();
    others.into_iter().for_each(JoinHandle::join);
}

/// As long as it takes to fall asleep.
const SHORT: Duration = Duration::from_millis(1);

/// A thread with a limit, or an interrupt, and one without wait for the only token. The first, if it has not been notified, leaves it to
/// the other.
fn gives_up(wait: fn(&PyCondvar, &mut Guard<'_>) -> bool) {
    let tokens = Tokens::new();
    let hasty = {
        let tokens = Rc::clone(&tokens);
        spawn(move || {
            attach(|py| {
                let mut guard = tokens.number.lock(py);
                let is_notified = wait(&tokens.changed, &mut guard);
                // It owns the mutex in any case.
                let now = number(&guard);
                if is_notified && now > 0 {
                    // Somebody else may have been meant: it is put back, and passed on.
                    set(&mut guard, now);
                    tokens.changed.notify_one();
                }
            });
        })
    };
    let patient = tokens.taker();
    attach(|py| {
        tokens.put(py, 1);
        tokens.changed.notify_one();
    });
    hasty.join();
    patient.join();
    assert_eq!(tokens.taken.get(), 1);
}

pub(crate) fn limit() {
    gives_up(|condvar, guard| condvar.wait_with(guard, SHORT).is_ok());
}

pub(crate) fn interrupt() {
    interpreter::raise_after(1);
    gives_up(|condvar, guard| {
        condvar
            .wait_with(guard, Wait::new().interruptible())
            .is_ok()
    });
}

/// A thread that waits owns another mutex, which the one that notifies wants before it lets the waiter have the first: a cycle, through
/// the mutex that is to be locked again. If it is the waiter that is told, the notification goes to the other one that waits.
pub(crate) fn passed_on() {
    let tokens = Tokens::new();
    let other = Rc::new(PyMutex::new(()));
    let told = Rc::new(Cell::new(false));
    let owner = {
        let (tokens, other, told) = (Rc::clone(&tokens), Rc::clone(&other), Rc::clone(&told));
        spawn(move || {
            attach(|py| {
                let _other = other.lock(py);
                let mut guard = tokens.number.lock(py);
                match tokens.changed.wait_checked(&mut guard) {
                    Ok(()) => tokens.changed.notify_one(),
                    Err(error) => {
                        assert_eq!(error.cause, Cause::Cycle);
                        assert!(!PyMutexGuard::is_held(&guard));
                        told.set(true);
                    }
                }
            });
        })
    };
    // It is the first one that waits, and is notified in any case.
    until(|| asleep() == 1);
    let patient = tokens.taker();
    attach(|py| {
        let mut guard = tokens.number.lock(py);
        set(&mut guard, 1);
        tokens.changed.notify_one();
        detach(py, || ());
        let _ = other.lock_checked(py).is_ok();
    });
    owner.join();
    patient.join();
    assert_eq!(tokens.taken.get(), 1);
}
