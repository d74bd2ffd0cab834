//! What all threads of a round share, and what must be true of it.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};

use pyo3::exceptions::{PyImportError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::PyModule;
use pyo3::{PyTraverseError, PyVisit};
use pyo3_sync::compat::GILOnceCell;
use pyo3_sync::exceptions::DeadlockError;
use pyo3_sync::{
    PyCondvar, PyImport, PyLazy, PyMutex, PyOnce, PyOnceLock, PyProtected, PyRwLock, PyTryLazy,
    WaitError,
};

use super::ledger::{self, Place};

/// Counts of what happened, printed at the end.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) operations: AtomicUsize,
    pub(super) deadlocks: AtomicUsize,
    pub(super) panics: AtomicUsize,
    pub(super) exceptions: AtomicUsize,
    pub(super) threads: AtomicUsize,
    pub(super) collections: AtomicUsize,
    pub(super) finalisers: AtomicUsize,
    pub(super) signals: AtomicUsize,
    pub(super) forks: AtomicUsize,
    pub(super) shutdowns: AtomicUsize,
    pub(super) failures: AtomicUsize,
}

pub(super) static COUNTS: Counts = Counts {
    operations: AtomicUsize::new(0),
    deadlocks: AtomicUsize::new(0),
    panics: AtomicUsize::new(0),
    exceptions: AtomicUsize::new(0),
    threads: AtomicUsize::new(0),
    collections: AtomicUsize::new(0),
    finalisers: AtomicUsize::new(0),
    signals: AtomicUsize::new(0),
    forks: AtomicUsize::new(0),
    shutdowns: AtomicUsize::new(0),
    failures: AtomicUsize::new(0),
};

pub(super) fn count(what: &AtomicUsize) {
    what.fetch_add(1, SeqCst);
}

/// Something that must hold does not.
pub(super) fn fail(what: &str) {
    count(&COUNTS.failures);
    eprintln!("stress: FAILURE: {what}");
}

pub(super) fn expect(holds: bool, what: &str) {
    if !holds {
        fail(what);
    }
}

/// Data with an invariant: the two are equal unless somebody is in the middle of a change.
#[derive(Default)]
pub(super) struct Account {
    pub(super) first: u64,
    pub(super) second: u64,
    /// Dropped and replaced under the lock.
    pub(super) object: Option<Py<PyAny>>,
}

/// A lock with an account, and how often threads believe to have changed it.
pub(super) struct Believed<L> {
    pub(super) lock: L,
    pub(super) changes: AtomicU64,
}

impl<L> From<L> for Believed<L> {
    fn from(lock: L) -> Self {
        Believed {
            lock,
            changes: AtomicU64::new(0),
        }
    }
}

impl<L> Believed<L> {
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, SeqCst);
    }

    fn check(&self, account: &Account, what: &str) {
        let believed = self.changes.load(SeqCst);
        let Account { first, second, .. } = *account;
        expect(
            first == believed && second == believed,
            &format!("{what}: {first} and {second}, but threads believe {believed}"),
        );
    }
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) items: VecDeque<u64>,
    pub(super) put: u64,
    pub(super) got: u64,
}

/// A set of cells, used until it is replaced by another one.
pub(super) struct Cells {
    pub(super) cell: PyOnceLock<Payload>,
    pub(super) cell_runs: AtomicUsize,
    pub(super) once: PyOnce,
    pub(super) once_runs: AtomicUsize,
    pub(super) lazy: PyLazy<Payload, Maker>,
    pub(super) lazy_runs: Arc<AtomicUsize>,
    pub(super) try_lazy: PyTryLazy<Payload, TryMaker>,
    pub(super) try_lazy_runs: Arc<AtomicUsize>,
    pub(super) import: PyImport,
    pub(super) old: GILOnceCell<Payload>,
    pub(super) foreign: OnceLock<u64>,
}

type Maker = Box<dyn Fn(Python<'_>) -> Payload + Send + Sync>;
type TryMaker = Box<dyn Fn(Python<'_>) -> PyResult<Payload> + Send + Sync>;

impl Drop for Cells {
    fn drop(&mut self) {
        if ledger::is_forked() {
            return;
        }
        let cells = [
            (self.cell.is_initialized(), self.cell_runs.load(SeqCst)),
            (self.once.is_completed(), self.once_runs.load(SeqCst)),
            (self.lazy.peek().is_some(), self.lazy_runs.load(SeqCst)),
            (
                self.try_lazy.peek().is_some(),
                self.try_lazy_runs.load(SeqCst),
            ),
        ];
        for (number, (is_filled, runs)) in cells.into_iter().enumerate() {
            expect(
                runs == usize::from(is_filled),
                &format!("cell {number}: filled is {is_filled}, after {runs} runs"),
            );
        }
    }
}

pub(super) static ALIVE: AtomicUsize = AtomicUsize::new(0);

pub(super) fn alive() -> usize {
    ALIVE.load(SeqCst)
}

/// A value that is counted, and has a Python object.
pub(super) struct Payload {
    pub(super) number: u64,
    _object: Py<PyAny>,
}

impl Payload {
    pub(super) fn new(number: u64, object: Py<PyAny>) -> Self {
        count(&ALIVE);
        Payload {
            number,
            _object: object,
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, SeqCst);
    }
}

/// An object that refers to others behind all kinds of locks.
#[pyclass(frozen)]
pub(super) struct Node {
    pub(super) mutex: PyMutex<Vec<Py<PyAny>>>,
    pub(super) rwlock: PyRwLock<Vec<Py<PyAny>>>,
    pub(super) protected: PyProtected<Vec<Py<PyAny>>>,
    pub(super) cell: PyOnceLock<Py<PyAny>>,
}

impl Node {
    pub(super) fn new() -> Self {
        count(&ALIVE);
        Node {
            mutex: PyMutex::default(),
            rwlock: PyRwLock::default(),
            protected: PyProtected::new(Vec::new()),
            cell: PyOnceLock::new(),
        }
    }
}

#[pymethods]
impl Node {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let links = [
            self.mutex.traverse(&visit),
            self.rwlock.traverse(&visit),
            self.protected.traverse(&visit),
        ];
        for link in links.into_iter().flatten().flatten() {
            visit.call(link)?;
        }
        self.cell
            .traverse(&visit)
            .map_or(Ok(()), |link| visit.call(link))
    }

    fn __clear__(&self, py: Python<'_>) {
        let mutex = self
            .mutex
            .try_lock(py)
            .map(|mut it| std::mem::take(&mut *it));
        let rwlock = self
            .rwlock
            .try_write(py)
            .map(|mut it| std::mem::take(&mut *it));
        let protected = self.protected.try_with_mut(py, std::mem::take);
        drop((mutex, rwlock, protected));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, SeqCst);
    }
}

pub(super) struct World {
    pub(super) mutexes: [Believed<Arc<PyMutex<Account>>>; 4],
    pub(super) rwlocks: [Believed<Arc<PyRwLock<Account>>>; 3],
    pub(super) protected: [Believed<PyProtected<Account>>; 3],
    /// Objects for critical sections, and counts that are changed in two steps inside of those.
    pub(super) objects: [(Py<PyAny>, AtomicU64, AtomicU64); 2],
    pub(super) queue: PyMutex<Queue>,
    pub(super) added: PyCondvar,
    pub(super) cells: Mutex<Arc<Cells>>,
    pub(super) module: Mutex<Option<Py<PyModule>>>,
    pub(super) shared: Mutex<Vec<Py<PyAny>>>,
    pub(super) foreign_mutex: Believed<Mutex<Account>>,
    pub(super) foreign_changed: Condvar,
    pub(super) foreign_rwlock: Believed<RwLock<Account>>,
    pub(super) parking_lot: Believed<parking_lot::Mutex<Account>>,
    pub(super) forks: bool,
    pub(super) imports: bool,
    pub(super) signals: bool,
    pub(super) is_over: AtomicBool,
    /// A class with a finaliser that uses the locks, and how many of its instances have been made and have died.
    pub(super) mortal: Py<PyAny>,
    pub(super) born: AtomicUsize,
}

static WORLD: OnceLock<World> = OnceLock::new();

pub(super) fn create(world: World) {
    assert!(WORLD.set(world).is_ok(), "one round in a process");
}

pub(super) fn world() -> &'static World {
    WORLD.get().expect("it was created")
}

impl World {
    /// What must be true when all threads have ended.
    pub(super) fn check(&self, py: Python<'_>) {
        for it in &self.mutexes {
            match it.lock.lock_checked(py) {
                Ok(account) => it.check(&account, "a mutex"),
                Err(error) => fail(&format!("a mutex is still locked: {error}")),
            }
        }
        for it in &self.rwlocks {
            match it.lock.write_checked(py) {
                Ok(account) => it.check(&account, "a read-write lock"),
                Err(error) => fail(&format!("a read-write lock is still locked: {error}")),
            }
        }
        for it in &self.protected {
            let checked = it
                .lock
                .try_with_mut(py, |account| it.check(account, "a protected cell"));
            if let Err(error) = checked {
                fail(&format!("a protected cell is still borrowed: {error}"));
            }
        }
        for (_, count, believed) in &self.objects {
            let (count, believed) = (count.load(SeqCst), believed.load(SeqCst));
            expect(
                count == believed,
                &format!("a section of an object: {count}, but threads believe {believed}"),
            );
        }
        let queue = self.queue.lock(py);
        expect(
            queue.put == queue.got + queue.items.len() as u64,
            "items of the queue were lost, or are there twice",
        );
        let account = self.foreign_mutex.lock.lock().expect("no panic under it");
        self.foreign_mutex.check(&account, "a mutex of std");
        let account = self.foreign_rwlock.lock.write().expect("no panic under it");
        self.foreign_rwlock
            .check(&account, "a read-write lock of std");
        let account = self.parking_lot.lock.lock();
        self.parking_lot.check(&account, "a mutex of parking_lot");
    }

    /// Takes out all objects that the threads left behind.
    pub(super) fn clear(&self, py: Python<'_>) {
        let mut objects = std::mem::take(&mut *self.shared.lock().expect("no panic under it"));
        let module = self.module.lock().expect("no panic under it").take();
        for it in &self.mutexes {
            objects.extend(it.lock.lock(py).object.take());
        }
        for it in &self.rwlocks {
            objects.extend(it.lock.write(py).object.take());
        }
        for it in &self.protected {
            objects.extend(it.lock.with_mut(py, |account| account.object.take()));
        }
        drop((objects, module));
    }
}

/// The panics that are part of a round.
pub(super) struct Deliberate;

pub(super) fn panic_deliberately() -> ! {
    count(&COUNTS.panics);
    // Not `panic!`, whose message would be printed.
    resume_unwind(Box::new(Deliberate))
}

/// Runs `body`, after which deliberate panics are over and all others are failures.
pub(super) fn contain<R>(body: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Some(result),
        Err(payload) => {
            if !payload.is::<Deliberate>() {
                fail(&format!("a panic: {}", text(payload.as_ref())));
            }
            None
        }
    }
}

pub(super) fn text(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(ToString::to_string);
    let message = literal.or_else(|| payload.downcast_ref::<String>().cloned());
    message.unwrap_or_else(|| "no text".to_owned())
}

/// An exception that is part of a round, or one that is not.
pub(super) fn consider(py: Python<'_>, error: &PyErr) {
    count(&COUNTS.exceptions);
    if error.is_instance_of::<DeadlockError>(py) {
        judge(&error.value(py).to_string());
    } else if !is_expected(py, error) {
        fail(&format!("an exception: {error}"));
    }
}

fn is_expected(py: Python<'_>, error: &PyErr) -> bool {
    // Those that a round makes, and what comes of modules that another thread throws away. Not by their text: to print an object runs
    // signal handlers, which may raise.
    let is_a = |name| {
        let class = world().mortal.bind(py).getattr(name);
        class.is_ok_and(|class| error.is_instance(py, &class))
    };
    is_a("Deliberate")
        || is_a("Interrupt")
        || error.is_instance_of::<PyImportError>(py)
        || error.is_instance_of::<PyKeyError>(py)
}

/// This thread was told of a deadlock, and holds what it held.
pub(super) fn judge(message: &str) {
    count(&COUNTS.deadlocks);
    if let Some(doubt) = ledger::doubt(message) {
        fail(&format!("a deadlock that is none: {doubt}\n{message}"));
    }
}

/// A wait that was refused.
pub(super) enum Refusal {
    Deadlock(String),
    Exception(PyErr),
}

impl From<pyo3_sync::DeadlockError> for Refusal {
    fn from(error: pyo3_sync::DeadlockError) -> Self {
        Refusal::Deadlock(error.to_string())
    }
}

impl From<WaitError> for Refusal {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Deadlock(error) => error.into(),
            error => Refusal::Exception(error.into()),
        }
    }
}

impl From<PyErr> for Refusal {
    fn from(error: PyErr) -> Self {
        Refusal::Exception(error)
    }
}

/// Asks for something at `place` by any of its forms; those may be refused by an error or by a panic, which is judged.
pub(super) fn ask<R>(
    py: Python<'_>,
    place: Place,
    form: impl FnOnce() -> Result<Option<R>, Refusal>,
) -> Option<R> {
    let _entry = ledger::want(place);
    match catch_unwind(AssertUnwindSafe(form)) {
        Ok(Ok(result)) => result,
        Ok(Err(Refusal::Deadlock(message))) => {
            judge(&message);
            None
        }
        Ok(Err(Refusal::Exception(error))) => {
            consider(py, &error);
            None
        }
        Err(payload) if payload.is::<Deliberate>() => resume_unwind(payload),
        Err(payload) => {
            let message = text(payload.as_ref());
            if message.starts_with("deadlock:") {
                judge(&message);
            } else {
                fail(&format!("a panic: {message}"));
            }
            None
        }
    }
}
