//! What threads do. An action may do others while it holds a lock, and may end early by an exception or a panic.

use std::hint;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3_sync::compat::GILOnceCell;
use pyo3_sync::critical_section::{
    with_critical_section, with_critical_section_mutex, with_critical_section_mutex2,
    with_critical_section2,
};
use pyo3_sync::ext::{CondvarExt, MutexExt, OnceLockExt, RwLockExt};
use pyo3_sync::{
    MappedPyMutexGuard, MappedPyRwLockReadGuard, MappedPyRwLockWriteGuard, ProtectedBorrowError,
    PyImport, PyLazy, PyMutexGuard, PyOnce, PyOnceLock, PyRwLockReadGuard, PyRwLockWriteGuard,
    PyTryLazy, TryAttachedError, Wait, WaitError,
};

use super::chance::{below, limit, number, one_in, pick};
use super::ledger::{self, Place, hold};
use super::world::{
    Account, Believed, COUNTS, Cells, Node, Payload, ask, consider, contain, count, expect, fail,
    judge, panic_deliberately, world,
};
use super::{fork, module_state, old_types, shutdown, threads};

/// How deep actions are in each other at most, those of finalisers, signal handlers and modules included.
const DEPTH: usize = 4;

thread_local! {
    static AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

struct Deeper;

impl Drop for Deeper {
    fn drop(&mut self) {
        AT.set(AT.get() - 1);
    }
}

type Action = fn(Python<'_>) -> PyResult<()>;

/// Each as often as it stands here.
const ACTIONS: &[(&str, Action)] = &[
    ("mutex", mutex),
    ("mutex", mutex),
    ("mutex", mutex),
    ("mutex", mutex),
    ("mutex, without a token", mutex_without_a_token),
    ("reading", read),
    ("reading", read),
    ("writing", write),
    ("writing", write),
    ("writing", write),
    ("protected", protected),
    ("protected", protected),
    ("two protected", two_protected),
    ("section of an object", section_of_object),
    ("sections of two objects", sections_of_two_objects),
    ("cell", cell),
    ("cell", cell),
    ("cell", cell),
    ("once", once),
    ("lazy", lazy),
    ("lazy that may fail", try_lazy),
    ("import", import),
    ("new cells", new_cells),
    ("queue", queue),
    ("queue", queue),
    ("module state", module_state::act),
    ("type that PyO3 has removed", old_types::act),
    ("lock of std", foreign),
    ("lock of std", foreign),
    ("collection", collect),
    ("garbage", garbage),
    ("garbage", garbage),
    ("finaliser", finaliser),
    ("detaching", detach),
    ("detaching", detach),
    ("Python code", python_code),
    ("exception", exception),
    ("panic", panic),
    ("signal", signal),
    ("fork", fork::act),
    ("threads", threads::act),
];

/// Does one thing.
pub(super) fn act(py: Python<'_>) -> PyResult<()> {
    if AT.get() >= DEPTH {
        return Ok(());
    }
    AT.set(AT.get() + 1);
    let _deeper = Deeper;
    count(&COUNTS.operations);
    let (name, action) = pick(ACTIONS);
    ledger::doing(name);
    action(py)
}

/// Does one thing that ends here, however it does.
pub(super) fn act_contained(py: Python<'_>) {
    if let Some(Err(error)) = contain(|| act(py)) {
        consider(py, &error);
    }
}

/// Uses a lock if it is free.
pub(super) fn act_without_waiting(py: Python<'_>) {
    count(&COUNTS.operations);
    let it = pick(&world().mutexes);
    if let Some(mut account) = it.lock.try_lock(py) {
        let _entry = hold(Place::of(&*it.lock));
        account.first += 1;
        account.second += 1;
        it.changed();
    }
}

/// Does nothing, or a few things.
pub(super) fn meanwhile(py: Python<'_>) -> PyResult<()> {
    for _ in 0..below(3) {
        act(py)?;
    }
    Ok(())
}

/// Changes an account, doing other things halfway.
pub(super) fn change<L, G: DerefMut<Target = Account>>(
    py: Python<'_>,
    guard: &mut G,
    of: &Believed<L>,
) -> PyResult<()> {
    expect(
        guard.first == guard.second,
        "somebody else is in the middle of a change",
    );
    guard.first += 1;
    let first = guard.first;
    let object = if one_in(8) { mortal(py)? } else { None };
    let old = object.and_then(|object| guard.object.replace(object));
    let result = catch_unwind(AssertUnwindSafe(|| {
        drop(old); // Its finaliser comes back here.
        meanwhile(py)
    }));
    if one_in(4) {
        let account = &mut **guard;
        py.detach(|| {
            thread::yield_now();
            account.second += 1;
        });
    } else {
        guard.second += 1;
    }
    expect(
        guard.first == first && guard.second == first,
        "somebody else has made a change in between",
    );
    of.changed();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn observe<G: Deref<Target = Account>>(py: Python<'_>, guard: &G) -> PyResult<()> {
    let before = (guard.first, guard.second);
    expect(
        before.0 == before.1,
        "a writer is in the middle of a change",
    );
    meanwhile(py)?;
    let after = (guard.first, guard.second);
    expect(before == after, "somebody wrote while others read");
    Ok(())
}

fn unless_timed_out<R>(waited: Result<R, WaitError>) -> Result<Option<R>, WaitError> {
    match waited {
        Ok(result) => Ok(Some(result)),
        Err(WaitError::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}

fn mutex(py: Python<'_>) -> PyResult<()> {
    let it = pick(&world().mutexes);
    let (lock, place) = (&*it.lock, Place::of(&*it.lock));
    if one_in(8) {
        let guard = ask(py, place, || {
            let guard = lock.lock_checked(py)?;
            Ok(Some(PyMutexGuard::into_arc(guard, &it.lock, py)))
        });
        return match guard {
            Some(mut guard) => {
                let _entry = hold(place);
                change(py, &mut guard, it)
            }
            None => Ok(()),
        };
    }
    let guard: Option<PyMutexGuard<'_, Account>> = ask(py, place, || {
        Ok(match below(8) {
            0 => Some(lock.lock(py)),
            1 => lock.try_lock(py),
            2 => unless_timed_out(lock.lock_with(py, limit()))?,
            3 => Some(lock.lock_with(py, Wait::new().interruptible())?),
            4 => {
                let wait = Wait::new().timeout(limit()).interruptible();
                unless_timed_out(lock.lock_with(py, wait))?
            }
            _ => Some(lock.lock_checked(py)?),
        })
    });
    let Some(mut guard) = guard else {
        return Ok(());
    };
    let _entry = hold(place);
    if one_in(4) {
        // Held, says the ledger, which makes it believe more and not less.
        match ask(py, place, || {
            Ok(Some(PyMutexGuard::unlocked(&mut guard, || meanwhile(py))))
        }) {
            Some(result) => result?,
            None => return Ok(()),
        }
    }
    if one_in(50) {
        lock.clear_poison(py);
    }
    if one_in(6) {
        // Of all of it.
        let part = match PyMutexGuard::try_map(guard, |account| one_in(2).then_some(account)) {
            Ok(part) => part,
            Err(guard) => PyMutexGuard::map(guard, |account| account),
        };
        let mut part = MappedPyMutexGuard::map(part, |account| account);
        return change(py, &mut part, it);
    }
    change(py, &mut guard, it)
}

/// Also from detached code, as a destructor would.
fn mutex_without_a_token(py: Python<'_>) -> PyResult<()> {
    let it = pick(&world().mutexes);
    let place = Place::of(&*it.lock);
    let attempt = || {
        let entry = ledger::want(place);
        let result = it.lock.try_with_attached(|py, mut account| {
            let _entry = hold(place);
            change(py, &mut account, it)
        });
        if let Err(TryAttachedError::Deadlock(error)) = &result {
            judge(&error.to_string());
        }
        drop(entry);
        result
    };
    let result = if one_in(2) {
        attempt()
    } else {
        py.detach(attempt)
    };
    match result {
        Ok(result) => result,
        Err(TryAttachedError::Deadlock(_)) => Ok(()),
        Err(other) => {
            fail(&format!("attached, and yet: {other}"));
            Ok(())
        }
    }
}

fn read(py: Python<'_>) -> PyResult<()> {
    let it = pick(&world().rwlocks);
    let (lock, place) = (&*it.lock, Place::of(&*it.lock));
    let guard: Option<PyRwLockReadGuard<'_, Account>> = ask(py, place, || {
        Ok(match below(7) {
            0 => Some(lock.read(py)),
            1 => lock.try_read(py),
            2 => unless_timed_out(lock.read_with(py, limit()))?,
            3 => Some(lock.read_with(py, Wait::new().interruptible())?),
            _ => Some(lock.read_checked(py)?),
        })
    });
    let Some(mut guard) = guard else {
        return Ok(());
    };
    let _entry = hold(place);
    observe(py, &guard)?;
    if one_in(4) {
        match ask(py, place, || {
            Ok(Some(PyRwLockReadGuard::unlocked(&mut guard, || {
                meanwhile(py)
            })))
        }) {
            Some(result) => result?,
            None => return Ok(()),
        }
        observe(py, &guard)?;
    }
    if one_in(6) {
        let part = match PyRwLockReadGuard::try_map(guard, |account| one_in(2).then_some(account)) {
            Ok(part) => part,
            Err(guard) => PyRwLockReadGuard::map(guard, |account| account),
        };
        let part = MappedPyRwLockReadGuard::map(part, |account| account);
        observe(py, &part)?;
    }
    Ok(())
}

fn write(py: Python<'_>) -> PyResult<()> {
    let it = pick(&world().rwlocks);
    let (lock, place) = (&*it.lock, Place::of(&*it.lock));
    if one_in(8) {
        let guard = ask(py, place, || {
            let guard = lock.write_checked(py)?;
            Ok(Some(PyRwLockWriteGuard::into_arc(guard, &it.lock, py)))
        });
        return match guard {
            Some(mut guard) => {
                let _entry = hold(place);
                change(py, &mut guard, it)
            }
            None => Ok(()),
        };
    }
    let guard: Option<PyRwLockWriteGuard<'_, Account>> = ask(py, place, || {
        Ok(match below(7) {
            0 => Some(lock.write(py)),
            1 => lock.try_write(py),
            2 => unless_timed_out(lock.write_with(py, limit()))?,
            3 => Some(lock.write_with(py, Wait::new().interruptible())?),
            _ => Some(lock.write_checked(py)?),
        })
    });
    let Some(mut guard) = guard else {
        return Ok(());
    };
    let _entry = hold(place);
    if one_in(4) {
        match ask(py, place, || {
            Ok(Some(PyRwLockWriteGuard::unlocked(&mut guard, || {
                meanwhile(py)
            })))
        }) {
            Some(result) => result?,
            None => return Ok(()),
        }
    }
    if one_in(6) {
        let part = match PyRwLockWriteGuard::try_map(guard, |account| one_in(2).then_some(account))
        {
            Ok(part) => part,
            Err(guard) => PyRwLockWriteGuard::map(guard, |account| account),
        };
        let mut part = MappedPyRwLockWriteGuard::map(part, |account| account);
        return change(py, &mut part, it);
    }
    change(py, &mut guard, it)?;
    if one_in(3) {
        let changed = guard.first;
        let guard = PyRwLockWriteGuard::downgrade(guard);
        expect(
            guard.first == changed,
            "somebody wrote in between writing and reading on",
        );
        observe(py, &guard)?;
    }
    Ok(())
}

fn protected(py: Python<'_>) -> PyResult<()> {
    let it = pick(&world().protected);
    let place = Place::of(&it.lock);
    let result = match below(3) {
        0 => it.lock.try_with(py, |account| {
            let _entry = hold(place);
            observe(py, &account)
        }),
        1 => it.lock.try_with_mut(py, |mut account| {
            let _entry = hold(place);
            change(py, &mut account, it)
        }),
        _ => with_critical_section_mutex(py, &it.lock, |section| {
            // Suspended by what comes in between.
            meanwhile_or_nothing(py);
            let mut account = section.try_borrow_mut()?;
            let _entry = hold(place);
            Ok(change(py, &mut account, it))
        }),
    };
    result.unwrap_or_else(|error| {
        check_borrower(&error, ledger::holds(place));
        Ok(())
    })
}

/// `is_mine` is whether this thread has borrowed what it asked for.
fn check_borrower(error: &ProtectedBorrowError, is_mine: bool) {
    expect(
        !error.is_by_this_thread() || is_mine,
        &format!("a borrow of another thread is said to be of this one: {error}"),
    );
}

fn meanwhile_or_nothing(py: Python<'_>) {
    if one_in(2) {
        act_contained(py);
    }
}

fn two_protected(py: Python<'_>) -> PyResult<()> {
    let (one, other) = (pick(&world().protected), pick(&world().protected));
    let (place, other_place) = (Place::of(&one.lock), Place::of(&other.lock));
    let is_mine = ledger::holds(place) || ledger::holds(other_place) || place == other_place;
    // Before they are held: one is borrowed while the error is made that the other cannot be, which may run a signal handler.
    let _entries = (hold(place), hold(other_place));
    let result = if one_in(2) {
        one.lock
            .try_with2_mut(py, &other.lock, |mut first, mut second| {
                change(py, &mut first, one)?;
                change(py, &mut second, other)
            })
    } else {
        with_critical_section_mutex2(py, &one.lock, &other.lock, |first, second| {
            let is_one = std::ptr::eq(&one.lock, &other.lock);
            expect(
                second.is_none() == is_one,
                "two views of one protected cell, or one of two",
            );
            let mut first = first.try_borrow_mut()?;
            let mut second = second.as_ref().map(|it| it.try_borrow_mut()).transpose()?;
            let result = change(py, &mut first, one);
            Ok(result.and_then(|()| match &mut second {
                Some(second) => change(py, second, other),
                None => Ok(()),
            }))
        })
    };
    result.unwrap_or_else(|error| {
        check_borrower(&error, is_mine);
        Ok(())
    })
}

/// In two steps, in which nothing detaches.
fn count_slowly(count: &AtomicU64, believed: &AtomicU64) {
    let old = count.load(Relaxed);
    for _ in 0..below(50) {
        hint::spin_loop();
    }
    count.store(old + 1, Relaxed);
    believed.fetch_add(1, SeqCst);
}

fn section_of_object(py: Python<'_>) -> PyResult<()> {
    let (object, count, believed) = pick(&world().objects);
    with_critical_section(object.bind(py), || {
        count_slowly(count, believed);
        let result = meanwhile(py); // Suspends the section, and takes it again.
        count_slowly(count, believed);
        result
    })
}

fn sections_of_two_objects(py: Python<'_>) -> PyResult<()> {
    let (one, other) = (pick(&world().objects), pick(&world().objects));
    with_critical_section2(one.0.bind(py), other.0.bind(py), || {
        count_slowly(&one.1, &one.2);
        count_slowly(&other.1, &other.2);
        meanwhile(py)
    })
}

pub(super) fn cells() -> Arc<Cells> {
    // Nobody detaches or runs Python code with it.
    Arc::clone(&world().cells.lock().expect("no panic under it"))
}

fn maker_of(runs: &Arc<AtomicUsize>) -> impl Fn(Python<'_>) -> PyResult<Payload> + use<> {
    let runs = Arc::clone(runs);
    move |py| {
        let _entry = hold(Place::ANY);
        meanwhile(py)?;
        let payload = Payload::new(number(), py.None());
        count(&runs);
        Ok(payload)
    }
}

pub(super) fn fresh_cells() -> Cells {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let (lazy_runs, try_lazy_runs) = (Arc::default(), Arc::default());
    let (make, try_make) = (maker_of(&lazy_runs), maker_of(&try_lazy_runs));
    let module = format!("stress_module_{}", NUMBER.fetch_add(1, SeqCst));
    Cells {
        cell: PyOnceLock::new(),
        cell_runs: AtomicUsize::new(0),
        once: PyOnce::new(),
        once_runs: AtomicUsize::new(0),
        lazy: PyLazy::new(Box::new(move |py| match make(py) {
            Ok(payload) => payload,
            Err(error) => {
                consider(py, &error);
                panic_deliberately()
            }
        })),
        lazy_runs,
        try_lazy: PyTryLazy::new(Box::new(try_make)),
        try_lazy_runs,
        import: PyImport::new(module.leak(), "value"),
        old: GILOnceCell::new(),
        foreign: Default::default(),
    }
}

fn new_cells(py: Python<'_>) -> PyResult<()> {
    let fresh = Arc::new(fresh_cells());
    let old = std::mem::replace(
        &mut *world().cells.lock().expect("no panic under it"),
        fresh,
    );
    drop(old);
    let _ = py;
    Ok(())
}

fn cell(py: Python<'_>) -> PyResult<()> {
    let cells = cells();
    let (cell, place) = (&cells.cell, Place::of(&cells.cell));
    let make = || {
        let _entry = hold(place);
        meanwhile(py)?;
        if one_in(10) {
            return Err(deliberate(py));
        }
        let payload = Payload::new(number(), mortal(py)?.unwrap_or_else(|| py.None()));
        count(&cells.cell_runs);
        Ok(payload)
    };
    let make_or_panic = || match make() {
        Ok(payload) => payload,
        Err(error) => {
            consider(py, &error);
            panic_deliberately()
        }
    };
    let value = ask(py, place, || {
        Ok(match below(6) {
            0 => Some(cell.get_or_init(py, make_or_panic)),
            1 => Some(cell.get_or_init_checked(py, make_or_panic)?),
            2 => {
                if one_in(8) {
                    match cell.try_insert(py, Payload::new(number(), py.None())) {
                        Ok(value) => {
                            count(&cells.cell_runs);
                            Some(value)
                        }
                        Err((value, _)) => Some(value),
                    }
                } else {
                    cell.get(py)
                }
            }
            _ => Some(cell.get_or_try_init_py(py, make)?),
        })
    });
    if let Some(value) = value {
        let again = cell.peek().map(|value| value.number);
        expect(again == Some(value.number), "a cell has changed its value");
        // Or none yet, if another thread has just inserted its value, and counts that next. When all is over there must be one.
        expect(
            cells.cell_runs.load(SeqCst) <= 1,
            "a cell was filled by several runs",
        );
    }
    Ok(())
}

fn once(py: Python<'_>) -> PyResult<()> {
    let cells = cells();
    let (once, place) = (&cells.once, Place::of(&cells.once));
    let run = || {
        let _entry = hold(place);
        if let Err(error) = meanwhile(py) {
            consider(py, &error);
            panic_deliberately();
        }
        count(&cells.once_runs);
    };
    let done = ask(py, place, || {
        match below(4) {
            // After a panic it is poisoned, and all forms but these panic: `ask` would take that for a failure.
            0 => once.call_once_force(py, |_| run()),
            1 => once.call_once_force_with(py, Wait::new().interruptible(), |_| run())?,
            _ => once.call_once_force_with(py, Wait::new(), |_| run())?,
        }
        Ok(Some(()))
    });
    if done.is_some() {
        expect(
            once.is_completed() && cells.once_runs.load(SeqCst) == 1,
            "something was done several times, or not at all",
        );
    }
    Ok(())
}

fn lazy(py: Python<'_>) -> PyResult<()> {
    let cells = cells();
    let (lazy, place) = (&cells.lazy, Place::of(&cells.lazy));
    let value = ask(py, place, || {
        Ok(Some(match below(3) {
            0 => lazy.get(py),
            1 => lazy.get_with(py, Wait::new().interruptible())?,
            _ => lazy.get_checked(py)?,
        }))
    });
    if let Some(value) = value {
        let again = lazy.peek().map(|value| value.number);
        expect(again == Some(value.number), "a lazy value has changed");
    }
    Ok(())
}

fn try_lazy(py: Python<'_>) -> PyResult<()> {
    let cells = cells();
    let (lazy, place) = (&cells.try_lazy, Place::of(&cells.try_lazy));
    let value = ask(py, place, || Ok(Some(lazy.get(py)?)));
    if let Some(value) = value {
        let again = lazy.peek().map(|value| value.number);
        expect(again == Some(value.number), "a lazy value has changed");
    }
    Ok(())
}

fn import(py: Python<'_>) -> PyResult<()> {
    if !world().imports {
        return Ok(());
    }
    let cells = cells();
    let first = match cells.import.get(py) {
        Ok(value) => value.as_ptr(),
        Err(error) => {
            // Also when this thread is told by the interpreter that modules import each other.
            consider_import(py, &error);
            return Ok(());
        }
    };
    let again = cells.import.get(py)?.as_ptr();
    expect(first == again, "an import has changed");
    Ok(())
}

fn consider_import(py: Python<'_>, error: &PyErr) {
    let name = error.get_type(py).name().map(|name| name.to_string());
    if !name.is_ok_and(|name| name == "AttributeError" || name == "_DeadlockError") {
        consider(py, error);
    }
}

fn queue(py: Python<'_>) -> PyResult<()> {
    let (queue, added) = (&world().queue, &world().added);
    let place = Place::of(queue);
    let Some(mut guard) = ask(py, place, || Ok(Some(queue.lock_checked(py)?))) else {
        return Ok(());
    };
    let _entry = hold(place);
    if one_in(2) {
        guard.items.push_back(number());
        guard.put += 1;
        if one_in(4) {
            added.notify_all();
        } else {
            added.notify_one();
        }
        return Ok(());
    }
    let limit = limit();
    let waited = ask(py, place, || {
        let waited = match below(3) {
            0 => added.wait_with(&mut guard, limit),
            _ => added.wait_while_with(&mut guard, |queue| queue.items.is_empty(), limit),
        };
        unless_timed_out(waited)?;
        Ok(Some(()))
    });
    // Otherwise the guard is disarmed.
    if waited.is_some() && guard.items.pop_front().is_some() {
        guard.got += 1;
    }
    Ok(())
}

/// Locks of others, for which no cycle is found: taken last, and nothing is done with them.
fn foreign(py: Python<'_>) -> PyResult<()> {
    if ledger::is_forked() {
        return Ok(());
    }
    fn step<L>(mut account: impl DerefMut<Target = Account>, of: &Believed<L>) {
        expect(
            account.first == account.second,
            "somebody else is in the middle of a change",
        );
        account.first += 1;
        hint::spin_loop();
        account.second += 1;
        of.changed();
    }
    let world = world();
    match below(5) {
        0 => {
            let account = world.foreign_mutex.lock.lock_attached(py);
            step(account.expect("no panic under it"), &world.foreign_mutex);
            world.foreign_changed.notify_one();
        }
        1 => {
            let mutex = &world.foreign_mutex.lock;
            let account = mutex.lock_attached(py).expect("no panic under it");
            let waited = world
                .foreign_changed
                .wait_timeout_attached(py, mutex, account, limit());
            let (account, _) = waited.expect("no panic under it");
            step(account, &world.foreign_mutex);
        }
        2 => {
            let account = world.foreign_rwlock.lock.write_attached(py);
            step(account.expect("no panic under it"), &world.foreign_rwlock);
        }
        3 => {
            let account = world.foreign_rwlock.lock.read_attached(py);
            let account = account.expect("no panic under it");
            expect(
                account.first == account.second,
                "a writer is in the middle of a change",
            );
        }
        _ => {
            step(world.parking_lot.lock.lock_attached(py), &world.parking_lot);
            let value = *cells().foreign.get_or_init_attached(py, number);
            let _ = value;
        }
    }
    Ok(())
}

fn collect(py: Python<'_>) -> PyResult<()> {
    if one_in(3) {
        py.import("gc")?.call_method0("collect")?;
        count(&COUNTS.collections);
    }
    Ok(())
}

/// Makes an object whose finaliser uses the locks; not in the child of a fork.
pub(super) fn mortal(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    if ledger::is_forked() {
        return Ok(None);
    }
    let object = world().mortal.call0(py)?;
    count(&world().born);
    Ok(Some(object))
}

/// Makes objects that refer to each other, changes links between them, and gives some to other threads.
fn garbage(py: Python<'_>) -> PyResult<()> {
    let node = Py::new(py, Node::new())?;
    let it = node.get();
    let place = Place::of(it);
    let others: Vec<Py<PyAny>> = {
        let mut shared = world().shared.lock().expect("no panic under it");
        shared.push(node.clone_ref(py).into_any());
        if shared.len() > 30 {
            let keep = shared.len() - below(20);
            shared.split_off(keep)
        } else {
            shared
                .last()
                .map(|it| it.clone_ref(py))
                .into_iter()
                .collect()
        }
    };
    let _entry = hold(place);
    for other in others {
        match below(4) {
            0 => it.mutex.lock(py).push(other),
            1 => it.rwlock.write(py).push(other),
            2 => it.protected.with_mut(py, |links| links.push(other)),
            // Not the other one: a cycle that runs through cells alone cannot be broken, since they are never emptied.
            _ => {
                if let Some(mortal) = mortal(py)? {
                    drop(it.cell.set(py, mortal));
                }
            }
        }
    }
    it.mutex.lock(py).push(node.clone_ref(py).into_any());
    if let Some(mortal) = mortal(py)? {
        it.rwlock.write(py).push(mortal);
    }
    Ok(())
}

fn finaliser(py: Python<'_>) -> PyResult<()> {
    drop(mortal(py)?);
    Ok(())
}

fn detach(py: Python<'_>) -> PyResult<()> {
    py.detach(|| {
        if one_in(4) {
            thread::sleep(Duration::from_micros(below(200) as u64));
        } else {
            thread::yield_now();
        }
    });
    Ok(())
}

fn python_code(py: Python<'_>) -> PyResult<()> {
    py.run(c"for it in range(20): {it: [it]}", None, None)
}

pub(super) fn deliberate(py: Python<'_>) -> PyErr {
    world()
        .mortal
        .getattr(py, "Deliberate")
        .and_then(|class| class.call0(py))
        .map_or_else(
            |error| error,
            |error| PyErr::from_value(error.into_bound(py)),
        )
}

fn exception(py: Python<'_>) -> PyResult<()> {
    if one_in(2) {
        return Err(deliberate(py));
    }
    Ok(())
}

fn panic(_: Python<'_>) -> PyResult<()> {
    if one_in(2) {
        panic_deliberately();
    }
    Ok(())
}

/// Of which the main thread will run the handler.
fn signal(py: Python<'_>) -> PyResult<()> {
    if world().signals && one_in(4) && !shutdown::has_begun() {
        let (os, signal) = (py.import("os")?, py.import("signal")?);
        let number = signal.getattr("SIGUSR2")?;
        os.call_method1("kill", (std::process::id(), number))?;
    }
    Ok(())
}

/// What a thread of the process does that is never attached.
pub(super) fn detached_thread() {
    let world = world();
    while !world.is_over.load(SeqCst) {
        {
            let mut account = world.foreign_mutex.lock.lock().expect("no panic under it");
            account.first += 1;
            thread::yield_now();
            account.second += 1;
            world.foreign_mutex.changed();
        }
        {
            let mut account = world.parking_lot.lock.lock();
            account.first += 1;
            account.second += 1;
            world.parking_lot.changed();
        }
        world.foreign_changed.notify_all();
        thread::sleep(Duration::from_micros(300));
    }
}
