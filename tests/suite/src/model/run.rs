//! Does the same to our primitives and to those of the reference, and compares.

use std::{
    cell::{Cell, RefCell},
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, TryLockError, TryLockResult},
    time::Instant,
};

use pyo3::prelude::*;
use pyo3_sync::{
    ArcPyMutexGuard, ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, MappedPyMutexGuard,
    MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard, PyBarrier, PyCondvar, PyLazy, PyMutex,
    PyMutexGuard, PyOnce, PyOnceLock, PyProtected, PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard,
    TryAttachedError, Wait, WaitError, compat::GILOnceCell,
    critical_section::with_critical_section_mutex, exceptions::DeadlockError,
};

use super::operation::{COUNT, CellForm, DoForm, Form, Limit, Operation, Part, Which};

#[derive(Default)]
pub(super) struct Ours {
    mutexes: [Arc<PyMutex<u32>>; COUNT],
    rwlocks: [Arc<PyRwLock<u32>>; COUNT],
    cells: [PyOnceLock<u32>; COUNT],
    compat_cells: [GILOnceCell<u32>; COUNT],
    onces: [PyOnce; COUNT],
    protected: [PyProtected<u32>; COUNT],
    changed: PyCondvar,
}

#[derive(Default)]
pub(super) struct Reference {
    mutexes: [Mutex<u32>; COUNT],
    rwlocks: [RwLock<u32>; COUNT],
    cells: [ReferenceCell; COUNT],
    compat_cells: [OnceLock<u32>; COUNT],
    onces: [ReferenceCell; COUNT],
    protected: [RefCell<u32>; COUNT],
    /// The next number to write.
    next: Cell<u32>,
}

#[derive(Default)]
struct ReferenceCell {
    value: OnceLock<u32>,
    is_running: Cell<bool>,
    is_poisoned: Cell<bool>,
}

impl ReferenceCell {
    /// Marks the cell as being filled.
    fn run(&self) -> impl Drop + '_ {
        struct Running<'c>(&'c ReferenceCell);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.is_running.set(false);
                if std::thread::panicking() {
                    self.0.is_poisoned.set(true);
                }
            }
        }
        assert!(!self.is_running.replace(true), "two run at once");
        Running(self)
    }
}

/// The panic of [`Operation::Panic`].
pub(super) struct Deliberate;

/// What `std` has, whether it is poisoned or not; `None` if it is taken.
fn free<G>(result: TryLockResult<G>) -> Option<G> {
    match result {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// What a form that panics on a deadlock gives.
fn unless_it_panics<R>(body: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Some(result),
        Err(payload) => {
            let message = payload.downcast_ref::<String>();
            let is_report = message.is_some_and(|message| message.starts_with("deadlock:"));
            if !is_report {
                resume_unwind(payload);
            }
            None
        }
    }
}

/// Calls a method with the [`Wait`] of `form`, and returns its result unless the wait failed as
/// the form allows.
fn waited<R>(form: Form, method: impl FnOnce(Wait) -> Result<R, WaitError>) -> Option<R> {
    let start = Instant::now();
    let (wait, timeout) = match form {
        Form::Timeout(Limit(timeout)) => (Wait::from(timeout), Some(timeout)),
        Form::Deadline(Limit(timeout)) => (Wait::from(start + timeout), Some(timeout)),
        Form::Both(Limit(timeout)) => (Wait::from(timeout).interruptible(), Some(timeout)),
        _ => (Wait::new().interruptible(), None),
    };
    match (method(wait), timeout) {
        (Ok(result), _) => Some(result),
        (Err(WaitError::Deadlock(_)), None) => None,
        (Err(WaitError::TimedOut), Some(timeout)) => {
            assert!(start.elapsed() >= timeout, "timed out early");
            None
        }
        (Err(error), _) => panic!("{form:?}: {error}"),
    }
}

fn unless_deadlock<R>(py: Python<'_>, result: PyResult<R>) -> Option<R> {
    result
        .inspect_err(|error| assert!(error.is_instance_of::<DeadlockError>(py), "{error}"))
        .ok()
}

pub(super) struct Run<'r, 'py> {
    pub(super) py: Python<'py>,
    pub(super) ours: &'r Ours,
    pub(super) reference: &'r Reference,
}

impl Run<'_, '_> {
    fn all(&self, operations: &[Operation]) {
        for operation in operations {
            self.one(operation);
        }
    }

    /// Both sides are free, or both are not; then what they guard is the same, and is changed to the same.
    fn agree<A: DerefMut<Target = u32>, B: DerefMut<Target = u32>>(
        &self,
        ours: Option<A>,
        reference: Option<B>,
        inside: &[Operation],
    ) {
        assert_eq!(ours.is_some(), reference.is_some(), "who got the lock");
        let (Some(mut ours), Some(mut reference)) = (ours, reference) else {
            return;
        };
        assert_eq!(*ours, *reference);
        self.all(inside);
        assert_eq!(*ours, *reference);
        *ours = self.next();
        *reference = *ours;
    }

    fn agree_to_read<A: Deref<Target = u32>, B: Deref<Target = u32>>(
        &self,
        ours: Option<A>,
        reference: Option<B>,
        inside: &[Operation],
    ) {
        assert_eq!(ours.is_some(), reference.is_some(), "who may read");
        if let (Some(ours), Some(reference)) = (ours, reference) {
            assert_eq!(*ours, *reference);
            self.all(inside);
            assert_eq!(*ours, *reference);
        }
    }

    fn next(&self) -> u32 {
        self.reference.next.set(self.reference.next.get() + 1);
        self.reference.next.get()
    }

    fn lock(&self, which: usize, form: Form) -> Option<PyMutexGuard<'_, u32>> {
        let (py, mutex) = (self.py, &self.ours.mutexes[which]);
        let was_poisoned = self.reference.mutexes[which].is_poisoned();
        let guard = match form {
            Form::Panicking => unless_it_panics(|| mutex.lock(py)),
            Form::Checked => mutex.lock_checked(py).ok(),
            Form::Try => mutex.try_lock(py),
            _ => waited(form, |wait| mutex.lock_with(py, wait)),
        };
        assert_eq!(mutex.is_poisoned(), was_poisoned);
        guard
    }

    fn read(&self, which: usize, form: Form) -> Option<PyRwLockReadGuard<'_, u32>> {
        let (py, lock) = (self.py, &self.ours.rwlocks[which]);
        match form {
            Form::Panicking => unless_it_panics(|| lock.read(py)),
            Form::Checked => lock.read_checked(py).ok(),
            Form::Try => lock.try_read(py),
            _ => waited(form, |wait| lock.read_with(py, wait)),
        }
    }

    fn write(&self, which: usize, form: Form) -> Option<PyRwLockWriteGuard<'_, u32>> {
        let (py, lock) = (self.py, &self.ours.rwlocks[which]);
        match form {
            Form::Panicking => unless_it_panics(|| lock.write(py)),
            Form::Checked => lock.write_checked(py).ok(),
            Form::Try => lock.try_write(py),
            _ => waited(form, |wait| lock.write_with(py, wait)),
        }
    }

    fn lock_arc(&self, which: usize, form: Form) -> Option<ArcPyMutexGuard<'_, u32>> {
        let (py, mutex) = (self.py, &self.ours.mutexes[which]);
        match form {
            Form::Panicking => unless_it_panics(|| PyMutex::lock_arc(mutex, py)),
            _ => {
                let guard = self.lock(which, form)?;
                Some(PyMutexGuard::into_arc(guard, mutex, py))
            }
        }
    }

    fn read_arc(&self, which: usize, form: Form) -> Option<ArcPyRwLockReadGuard<'_, u32>> {
        let (py, lock) = (self.py, &self.ours.rwlocks[which]);
        match form {
            Form::Panicking => unless_it_panics(|| PyRwLock::read_arc(lock, py)),
            _ => {
                let guard = self.read(which, form)?;
                Some(PyRwLockReadGuard::into_arc(guard, lock, py))
            }
        }
    }

    fn write_arc(&self, which: usize, form: Form) -> Option<ArcPyRwLockWriteGuard<'_, u32>> {
        let (py, lock) = (self.py, &self.ours.rwlocks[which]);
        match form {
            Form::Panicking => unless_it_panics(|| PyRwLock::write_arc(lock, py)),
            _ => {
                let guard = self.write(which, form)?;
                Some(PyRwLockWriteGuard::into_arc(guard, lock, py))
            }
        }
    }

    pub(super) fn one(&self, operation: &Operation) {
        let Run {
            py,
            ours,
            reference,
        } = *self;
        match operation {
            Operation::Lock(Which(which), form, inside) => {
                let theirs = free(reference.mutexes[*which].try_lock());
                self.agree(self.lock(*which, *form), theirs, inside);
            }
            Operation::LockArc(Which(which), form, inside) => {
                let theirs = free(reference.mutexes[*which].try_lock());
                self.agree(self.lock_arc(*which, *form), theirs, inside);
            }
            Operation::LockPart(Which(which), part, inside) => {
                let theirs = free(reference.mutexes[*which].try_lock());
                let mine = self.lock(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who got the lock");
                let (Some(mine), Some(theirs)) = (mine, theirs) else {
                    return;
                };
                match part {
                    Part::Map => {
                        let mine = PyMutexGuard::map(mine, |value| value);
                        self.agree(Some(mine), Some(theirs), inside);
                    }
                    Part::TryMap => {
                        let mine = PyMutexGuard::try_map(mine, |value| Some(value)).ok();
                        self.agree(mine, Some(theirs), inside);
                    }
                    Part::None => {
                        let mine = PyMutexGuard::try_map(mine, |_| None::<&mut u32>).err();
                        self.agree(mine, Some(theirs), inside);
                    }
                    Part::MapTwice => {
                        let mine = MappedPyMutexGuard::from(mine);
                        let mine = MappedPyMutexGuard::map(mine, |value| value);
                        let mine = MappedPyMutexGuard::try_map(mine, |value| Some(value)).ok();
                        self.agree(mine, Some(theirs), inside);
                    }
                    Part::MapThenNone => {
                        let mine = PyMutexGuard::map(mine, |value| value);
                        let mine = MappedPyMutexGuard::try_map(mine, |_| None::<&mut u32>).err();
                        self.agree(mine, Some(theirs), inside);
                    }
                }
            }
            Operation::LockWithoutToken(Which(which), inside) => {
                let theirs = free(reference.mutexes[*which].try_lock());
                let is_free = theirs.is_some();
                let theirs = Cell::new(theirs);
                let result = ours.mutexes[*which].try_with_attached(|_, value| {
                    self.agree(Some(value), theirs.take(), inside);
                });
                match result {
                    Ok(()) => assert!(is_free),
                    Err(TryAttachedError::Deadlock(_)) => assert!(!is_free),
                    Err(other) => panic!("{other}"),
                }
            }
            Operation::Read(Which(which), form, inside) => {
                let theirs = free(reference.rwlocks[*which].try_read());
                self.agree_to_read(self.read(*which, *form), theirs, inside);
            }
            Operation::ReadArc(Which(which), form, inside) => {
                let theirs = free(reference.rwlocks[*which].try_read());
                self.agree_to_read(self.read_arc(*which, *form), theirs, inside);
            }
            Operation::ReadPart(Which(which), part, inside) => {
                let theirs = free(reference.rwlocks[*which].try_read());
                let mine = self.read(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who got the lock");
                let (Some(mine), Some(theirs)) = (mine, theirs) else {
                    return;
                };
                match part {
                    Part::Map => {
                        let mine = PyRwLockReadGuard::map(mine, |value| value);
                        self.agree_to_read(Some(mine), Some(theirs), inside);
                    }
                    Part::TryMap => {
                        let mine = PyRwLockReadGuard::try_map(mine, |value| Some(value)).ok();
                        self.agree_to_read(mine, Some(theirs), inside);
                    }
                    Part::None => {
                        let mine = PyRwLockReadGuard::try_map(mine, |_| None::<&u32>).err();
                        self.agree_to_read(mine, Some(theirs), inside);
                    }
                    Part::MapTwice => {
                        let mine = PyRwLockReadGuard::map(mine, |value| value);
                        let mine = MappedPyRwLockReadGuard::map(mine, |value| value);
                        let mine = MappedPyRwLockReadGuard::try_map(mine, |value| Some(value)).ok();
                        self.agree_to_read(mine, Some(theirs), inside);
                    }
                    Part::MapThenNone => {
                        let mine = PyRwLockReadGuard::map(mine, |value| value);
                        let mine = MappedPyRwLockReadGuard::try_map(mine, |_| None::<&u32>).err();
                        self.agree_to_read(mine, Some(theirs), inside);
                    }
                }
            }
            Operation::Write(Which(which), form, inside) => {
                let theirs = free(reference.rwlocks[*which].try_write());
                self.agree(self.write(*which, *form), theirs, inside);
            }
            Operation::WriteArc(Which(which), form, inside) => {
                let theirs = free(reference.rwlocks[*which].try_write());
                self.agree(self.write_arc(*which, *form), theirs, inside);
            }
            Operation::WritePart(Which(which), part, inside) => {
                let theirs = free(reference.rwlocks[*which].try_write());
                let mine = self.write(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who got the lock");
                let (Some(mine), Some(theirs)) = (mine, theirs) else {
                    return;
                };
                match part {
                    Part::Map => {
                        let mine = PyRwLockWriteGuard::map(mine, |value| value);
                        self.agree(Some(mine), Some(theirs), inside);
                    }
                    Part::TryMap => {
                        let mine = PyRwLockWriteGuard::try_map(mine, |value| Some(value)).ok();
                        self.agree(mine, Some(theirs), inside);
                    }
                    Part::None => {
                        let mine = PyRwLockWriteGuard::try_map(mine, |_| None::<&mut u32>).err();
                        self.agree(mine, Some(theirs), inside);
                    }
                    Part::MapTwice => {
                        let mine = PyRwLockWriteGuard::map(mine, |value| value);
                        let mine = MappedPyRwLockWriteGuard::map(mine, |value| value);
                        let mine =
                            MappedPyRwLockWriteGuard::try_map(mine, |value| Some(value)).ok();
                        self.agree(mine, Some(theirs), inside);
                    }
                    Part::MapThenNone => {
                        let mine = PyRwLockWriteGuard::map(mine, |value| value);

                        let mine =
                            MappedPyRwLockWriteGuard::try_map(mine, |_| None::<&mut u32>).err();
                        self.agree(mine, Some(theirs), inside);
                    }
                }
            }
            Operation::DowngradeArc(Which(which), inside) => {
                let theirs = free(reference.rwlocks[*which].try_write());
                let mine = self.write_arc(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who may write");
                if let (Some(mut mine), Some(mut theirs)) = (mine, theirs) {
                    *mine = self.next();
                    *theirs = *mine;
                    drop(theirs);
                    let mine = ArcPyRwLockWriteGuard::downgrade(mine);
                    let theirs = free(reference.rwlocks[*which].try_read());
                    self.agree_to_read(Some(mine), theirs, inside);
                }
            }
            Operation::Downgrade(Which(which), inside) => {
                let theirs = free(reference.rwlocks[*which].try_write());
                let mine = self.write(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who may write");
                if let (Some(mut mine), Some(mut theirs)) = (mine, theirs) {
                    *mine = self.next();
                    *theirs = *mine;
                    drop(theirs);
                    let mine = PyRwLockWriteGuard::downgrade(mine);
                    let theirs = free(reference.rwlocks[*which].try_read()).expect("it is free");
                    self.all(inside);
                    assert_eq!(*mine, *theirs);
                }
            }
            Operation::Unlocked(Which(which), inside) => {
                let theirs = free(reference.mutexes[*which].try_lock());
                let mine = self.lock(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who got the lock");
                if let (Some(mut mine), Some(theirs)) = (mine, theirs) {
                    drop(theirs);
                    PyMutexGuard::unlocked(&mut mine, || self.all(inside));
                    let theirs = free(reference.mutexes[*which].try_lock());
                    self.agree(Some(mine), theirs, &[]);
                }
            }
            Operation::UnlockedRead(Which(which), inside) => {
                let theirs = free(reference.rwlocks[*which].try_read());
                let mine = self.read(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who may read");
                if let (Some(mut mine), Some(theirs)) = (mine, theirs) {
                    drop(theirs);
                    PyRwLockReadGuard::unlocked(&mut mine, || self.all(inside));
                    let theirs = free(reference.rwlocks[*which].try_read());
                    assert_eq!(Some(*mine), theirs.as_deref().copied());
                }
            }
            Operation::UnlockedWrite(Which(which), inside) => {
                let theirs = free(reference.rwlocks[*which].try_write());
                let mine = self.write(*which, Form::Try);
                assert_eq!(mine.is_some(), theirs.is_some(), "who may write");
                if let (Some(mut mine), Some(theirs)) = (mine, theirs) {
                    drop(theirs);
                    PyRwLockWriteGuard::unlocked(&mut mine, || self.all(inside));
                    let theirs = free(reference.rwlocks[*which].try_write());
                    self.agree(Some(mine), theirs, &[]);
                }
            }
            Operation::Borrow(Which(which), inside) => {
                let theirs = reference.protected[*which].try_borrow();
                let is_free = theirs.is_ok();
                let mine = ours.protected[*which].try_with(py, |mine| {
                    let theirs = theirs.expect("only one may be borrowed");
                    assert_eq!(mine, &*theirs);
                    self.all(inside);
                    assert_eq!(mine, &*theirs);
                });
                assert_eq!(mine.is_ok(), is_free, "who may borrow");
            }
            Operation::BorrowMutably(Which(which), inside) => {
                let theirs = Cell::new(reference.protected[*which].try_borrow_mut().ok());
                let mine = ours.protected[*which].try_with_mut(py, |mine| {
                    self.agree(Some(mine), theirs.take(), inside);
                });
                match mine {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(theirs.take().is_none(), "only ours may not be borrowed");
                        assert!(error.is_by_this_thread());
                    }
                }
            }
            Operation::BorrowBothMutably(Which(one), Which(other), inside) => {
                let first = reference.protected[*one].try_borrow_mut().ok();
                let second = reference.protected[*other].try_borrow_mut().ok();
                let both = Cell::new(first.zip(second));
                let (one, other) = (&ours.protected[*one], &ours.protected[*other]);
                let mine = one.try_with2_mut(py, other, |first, second| {
                    let (theirs, also_theirs) = both.take().expect("only one pair may be borrowed");
                    self.agree(Some(first), Some(theirs), inside);
                    self.agree(Some(second), Some(also_theirs), &[]);
                });
                let left = both.take();
                assert!(
                    mine.is_ok() || left.is_none(),
                    "only ours may not be borrowed"
                );
            }
            Operation::BorrowEntered(Which(which), inside) => {
                let theirs = reference.protected[*which].try_borrow().ok();
                with_critical_section_mutex(py, &ours.protected[*which], |entered| {
                    self.agree_to_read(entered.try_borrow().ok(), theirs, inside);
                });
            }
            Operation::BorrowEnteredMutably(Which(which), inside) => {
                let theirs = reference.protected[*which].try_borrow_mut().ok();
                with_critical_section_mutex(py, &ours.protected[*which], |entered| {
                    self.agree(entered.try_borrow_mut().ok(), theirs, inside);
                });
            }
            Operation::FillCompat(Which(which), inside) => {
                let (cell, theirs) = (&ours.compat_cells[*which], &reference.compat_cells[*which]);
                let was_filled = theirs.get().is_some();
                let mut has_run = false;
                let value = *cell.get_or_init(py, || {
                    has_run = true;
                    self.all(inside); // It may be filled in here, and then that is its value.
                    let value = self.next();
                    let _ = theirs.set(value);
                    value
                });
                assert_eq!(has_run, !was_filled);
                assert_eq!(Some(&value), theirs.get());
            }
            Operation::FailToFillCompat(Which(which), inside) => {
                let (cell, theirs) = (&ours.compat_cells[*which], &reference.compat_cells[*which]);
                let was_filled = theirs.get().copied();
                let result = cell.get_or_try_init(py, || {
                    self.all(inside);
                    Err(())
                });
                assert_eq!(result.copied(), was_filled.ok_or(()));
                assert_eq!(cell.get(py), theirs.get());
            }
            Operation::SetCompat(Which(which)) => {
                let value = self.next();
                let theirs = reference.compat_cells[*which].set(value);
                assert_eq!(ours.compat_cells[*which].set(py, value), theirs);
            }
            Operation::Fill(Which(which), form, inside) => self.fill(*which, *form, inside),
            Operation::FailToFill(Which(which), inside) => {
                let (cell, theirs) = (&ours.cells[*which], &reference.cells[*which]);
                let (was_filled, was_running) = (theirs.value.get(), theirs.is_running.get());
                let result = unless_it_panics(|| {
                    cell.get_or_try_init(py, || {
                        let _running = theirs.run();
                        self.all(inside);
                        Err(())
                    })
                    .copied()
                });
                let expected = match (was_filled, was_running) {
                    (Some(value), _) => Some(Ok(*value)),
                    (None, true) => None,
                    (None, false) => Some(Err(())),
                };
                assert_eq!(result, expected);
            }
            Operation::Set(Which(which)) => {
                let (cell, theirs) = (&ours.cells[*which], &reference.cells[*which]);
                let value = self.next();
                if theirs.value.get().is_none() && theirs.is_running.get() {
                    assert_eq!(unless_it_panics(|| cell.set(py, value)), None);
                } else {
                    assert_eq!(cell.set(py, value), theirs.value.set(value));
                }
            }
            Operation::Do(Which(which), form, inside) => self.once(*which, *form, inside),
            Operation::Get => {
                let lazy = PyLazy::new(|_| self.next());
                assert_eq!(*lazy.get(py), *lazy.get(py));
                for (mine, theirs) in ours.cells.iter().zip(&reference.cells) {
                    assert_eq!(mine.get(py), theirs.value.get());
                }
                for (mine, theirs) in ours.compat_cells.iter().zip(&reference.compat_cells) {
                    assert_eq!(mine.get(py), theirs.get());
                }
            }
            Operation::WaitInVain(Which(which), Limit(limit)) => {
                if let Some(mut guard) = self.lock(*which, Form::Try) {
                    for form in [Form::Timeout, Form::Deadline, Form::Both] {
                        let form = form(Limit(*limit));
                        let once = waited(form, |wait| ours.changed.wait_with(&mut guard, wait));
                        let never = |_: &mut u32| true;
                        let all = waited(form, |wait| {
                            ours.changed.wait_while_with(&mut guard, never, wait)
                        });
                        assert_eq!((once, all), (None, None));
                    }
                    drop(free(reference.mutexes[*which].try_lock()).expect("it is free"));
                }
            }
            Operation::WaitForWhatIsTrue(Which(which)) => {
                if let Some(mut guard) = self.lock(*which, Form::Try) {
                    ours.changed.wait_while(&mut guard, |_| false);
                }
            }
            Operation::Notify => {
                ours.changed.notify_one();
                ours.changed.notify_all();
            }
            Operation::Meet(limit) => {
                assert!(PyBarrier::new(1).wait(py).is_leader());
                let two = PyBarrier::new(2);
                for form in [Form::Timeout, Form::Deadline, Form::Both] {
                    let met = waited(form(*limit), |wait| two.wait_with(py, wait));
                    assert_eq!(met, None);
                }
            }
            Operation::ClearPoison(Which(which)) => {
                // What is owned by this thread as well.
                ours.mutexes[*which].clear_poison(py);
                reference.mutexes[*which].clear_poison();
            }
            Operation::Detach => py.detach(std::thread::yield_now),
            Operation::Panic => resume_unwind(Box::new(Deliberate)),
        }
    }

    fn fill(&self, which: usize, form: CellForm, inside: &[Operation]) {
        let (py, cell) = (self.py, &self.ours.cells[which]);
        let theirs = &self.reference.cells[which];
        let (was_filled, was_running) = (theirs.value.get().copied(), theirs.is_running.get());
        let runs = Cell::new(0);
        let make = || {
            runs.set(runs.get() + 1);
            let _running = theirs.run();
            self.all(inside);
            let value = self.next();
            theirs.value.set(value).expect("it runs once");
            value
        };
        let value = match form {
            CellForm::Checked => cell.get_or_init_checked(py, make).ok(),
            CellForm::Py => unless_deadlock(py, cell.get_or_try_init_py(py, || Ok(make()))),
            CellForm::Panicking => unless_it_panics(|| cell.get_or_init(py, make)),
        };
        let expected = match (was_filled, was_running) {
            (Some(_), _) => Some(0),
            (None, true) => None,
            (None, false) => Some(1),
        };
        assert_eq!(value.map(|_| runs.get()), expected);
        if value.is_some() {
            assert_eq!(value, theirs.value.get());
        }
    }

    fn once(&self, which: usize, form: DoForm, inside: &[Operation]) {
        let (py, once) = (self.py, &self.ours.onces[which]);
        let theirs = &self.reference.onces[which];
        let (was_done, was_running) = (theirs.value.get().is_some(), theirs.is_running.get());
        let was_poisoned = theirs.is_poisoned.get();
        if was_poisoned && matches!(form, DoForm::Checked) {
            // The forms without `force` panic, as those of `std`.
            return;
        }
        let runs = Cell::new(0);
        let run = || {
            runs.set(runs.get() + 1);
            let _running = theirs.run();
            self.all(inside);
            theirs.value.set(0).expect("it runs once");
            theirs.is_poisoned.set(false);
        };
        let done = match form {
            DoForm::Checked => once.call_once_checked(py, run).ok(),
            DoForm::Force => once
                .call_once_force_with(py, Wait::new(), |state| {
                    assert_eq!(state.is_poisoned(), was_poisoned);
                    run();
                })
                .ok(),
        };
        let expected = match (was_done, was_running) {
            (true, _) => Some(0),
            (false, true) => None,
            (false, false) => Some(1),
        };
        assert_eq!(done.map(|()| runs.get()), expected);
        assert_eq!(once.is_completed(), theirs.value.get().is_some());
    }

    /// When nothing is owned.
    pub(super) fn states_are_the_same(&self) {
        let Run {
            py,
            ours,
            reference,
        } = *self;
        for (mine, theirs) in ours.mutexes.iter().zip(&reference.mutexes) {
            assert!(!mine.is_locked());
            assert_eq!(mine.is_poisoned(), theirs.is_poisoned());
            let value = *theirs.lock().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(*mine.lock(py), value);
        }
        for (mine, theirs) in ours.rwlocks.iter().zip(&reference.rwlocks) {
            assert_eq!(mine.is_poisoned(), theirs.is_poisoned());
            let value = *theirs.read().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(*mine.write(py), value);
        }
        for (mine, theirs) in ours.cells.iter().zip(&reference.cells) {
            assert_eq!(mine.peek(), theirs.value.get());
        }
        for (mine, theirs) in ours.compat_cells.iter().zip(&reference.compat_cells) {
            assert_eq!(mine.get(py), theirs.get());
        }
        for (mine, theirs) in ours.onces.iter().zip(&reference.onces) {
            assert_eq!(mine.is_completed(), theirs.value.get().is_some());
        }
        for (mine, theirs) in ours.protected.iter().zip(&reference.protected) {
            mine.with_mut(py, |mine| assert_eq!(mine, &*theirs.borrow()));
        }
    }
}
