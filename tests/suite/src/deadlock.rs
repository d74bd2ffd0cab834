//! Waits that could never end: every one is reported, once, and no other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::exceptions::DeadlockError;
use pyo3_sync::{
    PyImport, PyMutex, PyMutexGuard, PyOnce, PyOnceLock, PyRwLock, PyRwLockReadGuard,
    PyRwLockWriteGuard, TryAttachedError, Wait,
};

use crate::callback::Callback;
use crate::harness::{
    Barrier, PythonThread, on_threads, on_two_threads, wait_until, yield_until_detached,
};
use crate::interpreter::{collect, wait_until_an_import_blocks};
use crate::panics::{caught, panic_of, silence_deadlocks};
use crate::random::{Random, Stream};
use crate::registry::Module;
use crate::test;

/// pyo3#5928, pyo3#5341 in the form of mutexes. One thread is told, and lets go; the other one goes on.
fn two_threads_that_want_each_others_lock(py: Python<'_>) -> PyResult<()> {
    let locks = [PyMutex::new(0), PyMutex::new(0)];
    let barrier = Barrier::new(2);
    let errors = on_threads(py, 2, |py, number| {
        let _mine = locks[number].lock(py);
        barrier.meet(py);
        locks[1 - number]
            .lock_checked(py)
            .map(|mut other| *other += 1)
            .err()
            .map(|error| error.to_string())
    });
    let told: Vec<_> = errors.iter().flatten().collect();
    assert_eq!(told.len(), 1, "{errors:?}");
    assert_eq!(locks.map(PyMutex::into_inner).iter().sum::<i32>(), 1);

    let message = told[0];
    expect_advice(message, "acquire the locks in one order everywhere");
    assert!(
        message.contains("2 threads wait for each other"),
        "{message}"
    );
    assert_eq!(
        message
            .matches("waits at tests/suite/src/deadlock.rs:")
            .count(),
        2,
        "{message}"
    );
    assert_eq!(
        message.matches("for the PyMutex at 0x").count(),
        2,
        "{message}"
    );
    assert_eq!(message.matches("(0x").count(), 4, "{message}");
    if cfg!(debug_assertions) {
        assert_eq!(
            message
                .matches("(acquired at tests/suite/src/deadlock.rs:")
                .count(),
            2
        );
    }
    Ok(())
}

/// Every piece of advice on cycles, by a part that the others do not have.
const ADVICE: [&str; 5] = [
    "acquire the locks in one order everywhere",
    "initialize the value before acquiring the lock",
    "import the module before acquiring the lock",
    "import the module before initializing the value",
    "initialize one value before the other",
];

/// Checks that the message has this piece of advice and no other.
fn expect_advice(message: &str, advice: &str) {
    assert!(ADVICE.contains(&advice));
    for other in ADVICE {
        assert_eq!(message.contains(other), other == advice, "{message}");
    }
}

/// pyo3#5928, pyo3#5341: the initialiser of each of two cells asks for the other.
fn two_cells_that_need_each_other(py: Python<'_>) -> PyResult<()> {
    let cells = [PyOnceLock::<usize>::new(), PyOnceLock::new()];
    let barrier = Barrier::new(2);
    let results = on_threads(py, 2, |py, number| {
        cells[number]
            .get_or_try_init_py(py, || {
                barrier.meet(py);
                cells[1 - number]
                    .get_or_try_init_py(py, || Ok(10))
                    .map(|other| other + 1)
            })
            .copied()
    });
    let told: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].is_instance_of::<DeadlockError>(py));
    expect_advice(
        &told[0].to_string(),
        "initialize one value before the other",
    );
    // The thread that was told failed; the other one then filled both.
    assert!(
        results.iter().any(|result| matches!(result, Ok(11))),
        "{results:?}"
    );
    assert!(cells.iter().all(PyOnceLock::is_initialized));
    Ok(())
}

/// The forms that return no result panic, and the lock that a panicking initialiser or guard held is given up.
fn the_forms_without_a_result_panic(py: Python<'_>) -> PyResult<()> {
    let (mutex, cell) = (PyMutex::new(0), PyOnceLock::new());
    let barrier = Barrier::new(2);
    let (first, second) = on_two_threads(
        py,
        |py| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let guard = mutex.lock(py);
                barrier.meet(py);
                *cell.get_or_init(py, || 1) + *guard
            }))
        },
        |py| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                *cell.get_or_init(py, || {
                    barrier.meet(py);
                    *mutex.lock(py) + 2
                })
            }))
        },
    );
    assert_eq!(first.is_ok() as u8 + second.is_ok() as u8, 1);
    let panic = first.err().or(second.err()).expect("one was told");
    let message = panic.downcast_ref::<String>().expect("it is formatted");
    expect_advice(message, "initialize the value before acquiring the lock");
    assert!(!mutex.is_locked());
    assert!(cell.is_initialized() || cell.get_or_init(py, || 3) == &3);
    Ok(())
}

/// `try_with_attached` on two threads that have not been attached before.
fn whoever_attaches_to_lock_is_told(py: Python<'_>) -> PyResult<()> {
    let locks = [PyMutex::new(0), PyMutex::new(0)];
    let barrier = Barrier::new(2);
    let results = py.detach(|| {
        thread::scope(|scope| {
            let threads = [0, 1].map(|number| {
                let (locks, barrier) = (&locks, &barrier);
                scope.spawn(move || {
                    locks[number].try_with_attached(|py, mine| {
                        *mine += 1;
                        barrier.meet(py);
                        locks[1 - number].try_with_attached(|_, other| *other += 1)
                    })
                })
            });
            threads.map(|thread| thread.join().expect("it does not panic"))
        })
    });
    let results = results.map(|outer| outer.expect("its own is free"));
    let told = results.iter().filter_map(|inner| inner.as_ref().err());
    let told: Vec<_> = told.collect();
    match told[..] {
        [TryAttachedError::Deadlock(error)] => {
            let message = error.to_string();
            assert!(
                message.contains("2 threads wait for each other"),
                "{message}"
            );
        }
        _ => panic!("one thread is told: {results:?}"),
    }
    assert_eq!(locks.map(PyMutex::into_inner).iter().sum::<i32>(), 3);
    Ok(())
}

/// What a thread of a ring has, and the one before it wants.
enum Link {
    Mutex(PyMutex<usize>),
    /// In the middle of its initialiser; gives whether that fails when its thread is told.
    Cell(PyOnceLock<usize>, bool),
    Written(PyRwLock<usize>),
    /// By that one thread.
    Read(PyRwLock<usize>),
}

impl Link {
    fn random(random: &mut Stream) -> Self {
        match random.below(5) {
            0 => Link::Mutex(PyMutex::new(0)),
            1 => Link::Cell(PyOnceLock::new(), false),
            2 => Link::Cell(PyOnceLock::new(), true),
            3 => Link::Written(PyRwLock::new(0)),
            _ => Link::Read(PyRwLock::new(0)),
        }
    }

    /// Runs `body` on the thread that has the link.
    fn having(
        &self,
        py: Python<'_>,
        body: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        match self {
            Link::Mutex(mutex) => {
                let _guard = mutex.lock(py);
                body()
            }
            Link::Cell(cell, true) => cell.get_or_try_init(py, || body().map(|()| 1)).map(drop),
            Link::Cell(cell, false) => {
                let mut result = Ok(());
                cell.get_or_init(py, || {
                    result = body();
                    1
                });
                result
            }
            Link::Written(lock) => {
                let _guard = lock.write(py);
                body()
            }
            Link::Read(lock) => {
                let _guard = lock.read(py);
                body()
            }
        }
    }

    /// Requests the link by one of several methods. Those without a result panic on a deadlock.
    fn ask(&self, py: Python<'_>, form: usize) -> Result<(), String> {
        fn text(error: impl ToString) -> String {
            error.to_string()
        }
        match self {
            Link::Mutex(mutex) => match form % 6 {
                0 | 1 => drop(mutex.lock(py)),
                2 | 3 => drop(mutex.lock_checked(py).map_err(text)?),
                4 => drop(
                    mutex
                        .lock_with(py, Wait::new().interruptible())
                        .map_err(text)?,
                ),
                _ => mutex.try_with_attached(|_, _| ()).map_err(text)?,
            },
            Link::Cell(cell, _) => match form % 4 {
                0 => drop(cell.get_or_init(py, || 2)),
                1 => drop(cell.get_or_init_checked(py, || 2).map_err(text)?),
                _ => drop(cell.get_or_try_init_py(py, || Ok(2)).map_err(text)?),
            },
            Link::Written(lock) if form % 2 == 0 => match form / 2 % 4 {
                0 => drop(lock.read(py)),
                1 | 2 => drop(lock.read_checked(py).map_err(text)?),
                _ => drop(
                    lock.read_with(py, Wait::new().interruptible())
                        .map_err(text)?,
                ),
            },
            Link::Written(lock) | Link::Read(lock) => match form / 2 % 4 {
                0 => drop(lock.write(py)),
                1 | 2 => drop(lock.write_checked(py).map_err(text)?),
                _ => drop(
                    lock.write_with(py, Wait::new().interruptible())
                        .map_err(text)?,
                ),
            },
        }
        Ok(())
    }

    fn is_free(&self) -> bool {
        match self {
            Link::Mutex(mutex) => !mutex.is_locked(),
            // Empty if its initialiser failed and nobody else got to run one.
            Link::Cell(cell, fails) => cell.is_initialized() || *fails,
            Link::Written(lock) | Link::Read(lock) => !lock.is_locked(),
        }
    }
}

/// Rings of 2 to 16 threads, each with a link of any kind that the one before it wants. Exactly one is told, and the others finish.
fn no_cycle_is_missed(py: Python<'_>) -> PyResult<()> {
    const CYCLES: usize = 10_000;
    const THREADS: usize = 16;
    struct Ring {
        links: Vec<Link>,
        /// In which form each thread asks.
        forms: Vec<usize>,
        ready: AtomicUsize,
        told: AtomicUsize,
        passed: AtomicUsize,
    }
    impl Ring {
        fn random(random: &mut Stream) -> Self {
            let size = 2 + random.below(THREADS - 1);
            Ring {
                links: (0..size).map(|_| Link::random(random)).collect(),
                forms: (0..size).map(|_| random.below(1 << 16)).collect(),
                ready: AtomicUsize::new(0),
                told: AtomicUsize::new(0),
                passed: AtomicUsize::new(0),
            }
        }

        fn take_part(&self, py: Python<'_>, number: usize) {
            let size = self.links.len();
            let result = caught(|| {
                self.links[number].having(py, || {
                    self.ready.fetch_add(1, SeqCst);
                    py.detach(|| {
                        yield_until_detached("all are ready", || self.ready.load(SeqCst) == size);
                    });
                    self.links[(number + 1) % size].ask(py, self.forms[number])
                })
            });
            match result.and_then(|result| result) {
                Ok(()) => self.passed.fetch_add(1, SeqCst),
                Err(message) => {
                    assert!(
                        message.contains(&format!("deadlock: {size} threads wait")),
                        "{message}"
                    );
                    self.told.fetch_add(1, SeqCst)
                }
            };
        }

        fn is_over(&self) -> bool {
            self.told.load(SeqCst) + self.passed.load(SeqCst) == self.links.len()
        }
    }
    silence_deadlocks();
    let mut random = Random::announced().stream(0);
    let rings: Vec<Ring> = (0..CYCLES).map(|_| Ring::random(&mut random)).collect();
    on_threads(py, THREADS, |py, number| {
        for (cycle, ring) in rings.iter().enumerate() {
            // All wait for the slowest, so that rings do not overlap.
            if let Some(before) = cycle.checked_sub(1) {
                py.detach(|| {
                    yield_until_detached("the ring is over", || rings[before].is_over());
                });
            }
            if number < ring.links.len() {
                ring.take_part(py, number);
            }
        }
    });
    for (cycle, ring) in rings.iter().enumerate() {
        let (told, size) = (ring.told.load(SeqCst), ring.links.len());
        assert_eq!(told, 1, "cycle {cycle} of {size} threads");
        assert!(ring.links.iter().all(Link::is_free), "cycle {cycle}");
    }
    Ok(())
}

/// Rings that run through cells as well: thread n fills cell n and wants cell n + 1.
fn no_cycle_of_cells_is_missed(py: Python<'_>) -> PyResult<()> {
    for size in 2..=16 {
        for _ in 0..20 {
            let cells: Vec<PyOnceLock<usize>> = (0..size).map(|_| PyOnceLock::new()).collect();
            let barrier = Barrier::new(size);
            let told: usize = on_threads(py, size, |py, number| {
                let mut told = 0;
                cells[number].get_or_init(py, || {
                    barrier.meet(py);
                    let next = cells[(number + 1) % size].get_or_try_init_py(py, || Ok(7));
                    told += next.is_err() as usize;
                    number
                });
                told
            })
            .into_iter()
            .sum();
            assert_eq!(told, 1);
            assert!(
                cells
                    .iter()
                    .enumerate()
                    .all(|(number, cell)| cell.peek() == Some(&number))
            );
        }
    }
    Ok(())
}

/// Objects whose finalisers take a lock that comes after all others, and that nobody keeps while calling anything.
mod finalisers {
    use super::*;

    static MADE: AtomicUsize = AtomicUsize::new(0);
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    static FINISHED: AtomicUsize = AtomicUsize::new(0);
    static LAST: PyMutex<usize> = PyMutex::new(0);

    /// Dropped while detached, the object dies when this thread, or another one, attaches: with locks held there.
    pub(super) fn leave_one(py: Python<'_>) {
        MADE.fetch_add(1, SeqCst);
        let dies = Callback::new(|py| {
            STARTED.fetch_add(1, SeqCst);
            *LAST.lock(py) += 1; // A panic would not get beyond the finaliser.
            FINISHED.fetch_add(1, SeqCst);
            Ok(())
        })
        .on_death(py)
        .expect("it is made");
        py.detach(|| drop(dies));
    }

    /// Of those that were left, every one has come to its end.
    pub(super) fn expect_all_to_have_finished(py: Python<'_>) {
        assert!(MADE.load(SeqCst) > 0);
        wait_until(py, "all finalisers have begun", || {
            STARTED.load(SeqCst) == MADE.load(SeqCst)
        });
        wait_until(py, "all finalisers have finished: none was told", || {
            FINISHED.load(SeqCst) == MADE.load(SeqCst)
        });
        assert_eq!(*LAST.lock(py), MADE.load(SeqCst));
    }
}

/// Locks are taken in one order by all threads, so no cycle can be: whatever is reported is a false alarm. With limits, tries,
/// panics, errors, threads that come and go, and finalisers that take locks while their thread attaches again.
fn nobody_is_told_without_reason(py: Python<'_>) -> PyResult<()> {
    const LOCKS: usize = 6;
    static MUTEXES: [PyMutex<usize>; LOCKS] = [const { PyMutex::new(0) }; LOCKS];
    let random = Random::announced();
    let cells: Vec<PyMutex<Option<Arc<PyOnceLock<usize>>>>> =
        (0..LOCKS).map(|_| PyMutex::new(None)).collect();
    let deadline = Instant::now() + Duration::from_secs(4);
    on_threads(py, 6, |py, number| {
        let mut random = random.stream(number as u64);
        while Instant::now() < deadline {
            let seed = random.next();
            // A thread of its own now and then: ids come and go.
            if seed % 16 == 0 {
                on_threads(py, 1, |py, _| {
                    take_some(py, &mut Random::from(seed).stream(0), &cells, &MUTEXES)
                });
            } else {
                take_some(py, &mut random, &cells, &MUTEXES);
            }
        }
    });

    fn take_some(
        py: Python<'_>,
        random: &mut Stream,
        cells: &[PyMutex<Option<Arc<PyOnceLock<usize>>>>],
        mutexes: &'static [PyMutex<usize>; LOCKS],
    ) {
        let mut guards: Vec<PyMutexGuard<'_, usize>> = Vec::new();
        let mut lock = random.below(LOCKS);
        while lock < LOCKS {
            let mutex = &mutexes[lock];
            let guard = match random.below(8) {
                0 => mutex.try_lock(py),
                1 => {
                    let timeout = Duration::from_micros(random.below(300) as u64);
                    mutex.lock_with(py, timeout).ok()
                }
                2 => Some(
                    mutex
                        .lock_with(py, Wait::new().interruptible())
                        .expect("there is no cycle"),
                ),
                3 => Some(mutex.lock_checked(py).expect("there is no cycle")),
                _ => Some(mutex.lock(py)),
            };
            if let Some(mut guard) = guard {
                *guard += 1;
                guards.push(guard);
            }
            lock += 1 + random.below(3);
        }
        match random.below(12) {
            0 => {
                let guards = std::mem::take(&mut guards);
                let panic = std::panic::AssertUnwindSafe(|| {
                    let _guards = guards;
                    std::panic::resume_unwind(Box::new("as it should"))
                });
                let result: thread::Result<()> = std::panic::catch_unwind(panic);
                assert!(result.is_err());
            }
            1..=3 => finalisers::leave_one(py),
            4..=7 => py.detach(thread::yield_now),
            _ => {}
        }
        drop(guards);
        // A cell, now and then a fresh one, whose initialiser takes a lock.
        let index = random.below(LOCKS);
        let fresh = random.below(4) == 0;
        let cell = cells[index].with(py, |slot| {
            if fresh || slot.is_none() {
                *slot = Some(Default::default());
            }
            slot.clone().expect("it was put there")
        });
        let filled = cell.get_or_try_init(py, || {
            let mut guard = mutexes[index].lock(py);
            *guard += 1;
            if *guard % 3 == 0 { Err(()) } else { Ok(*guard) }
        });
        let _ = filled;
    }

    collect(py);
    finalisers::expect_all_to_have_finished(py);
    assert!(MUTEXES.iter().all(|mutex| !mutex.is_locked()));
    Ok(())
}

/// What a thread says of itself, for [`whoever_is_told_is_in_a_cycle`].
#[derive(Default, Clone, Copy)]
struct Doing {
    /// The locks that it has, as bits.
    owns: u32,
    /// What it has asked for, without a limit, and not got yet; and whether to own it alone.
    asks_for: Option<(usize, bool)>,
    /// How often it was told of a deadlock.
    told: usize,
}

impl Doing {
    /// Whether others may have to wait for it who want the lock. Who has asked to write to one that is read keeps new readers out.
    fn is_in_the_way(&self, lock: usize) -> bool {
        self.owns & 1 << lock != 0 || self.asks_for == Some((lock, true))
    }
}

/// What all threads say at one time.
#[derive(Default, Clone, Copy)]
struct Doings([Doing; Doings::THREADS]);

impl Doings {
    const THREADS: usize = 6;

    /// Whether each of the locks is asked for by a thread that is in the way of the one before. The first is what `thread` has asked
    /// for, and it is in the way of the last.
    fn confirm(&self, locks: &[usize], thread: usize) -> bool {
        let others = || {
            let all = self.0.iter().enumerate();
            all.filter_map(|(number, doing)| (number != thread).then_some(doing))
        };
        let is_next = |pair: &[usize]| {
            others().any(|doing| {
                let asks = doing.asks_for.is_some_and(|(lock, _)| lock == pair[1]);
                asks && doing.is_in_the_way(pair[0])
            })
        };
        locks.windows(2).all(is_next)
            && locks
                .last()
                .is_some_and(|&last| self.0[thread].is_in_the_way(last))
    }

    /// [`confirm`](Self::confirm) at this time, or any later one that is in the log.
    fn have_confirmed(mut self, log: &[(usize, Doing)], locks: &[usize], thread: usize) -> bool {
        self.confirm(locks, thread)
            || log.iter().any(|&(number, doing)| {
                self.0[number] = doing;
                self.confirm(locks, thread)
            })
    }
}

/// What all threads say, and what they have said.
#[derive(Default)]
struct Sayings {
    now: Doings,
    log: Vec<(usize, Doing)>,
}

impl Sayings {
    fn say(&mut self, thread: usize, change: impl FnOnce(&mut Doing)) {
        change(&mut self.now.0[thread]);
        self.log.push((thread, self.now.0[thread]));
    }
}

/// A lock of either kind.
enum Shared {
    Mutex(PyMutex<usize>),
    RwLock(PyRwLock<usize>),
}

enum SharedGuard<'a> {
    Mutex(#[expect(dead_code, reason = "kept to be dropped")] PyMutexGuard<'a, usize>),
    Read(#[expect(dead_code, reason = "kept to be dropped")] PyRwLockReadGuard<'a, usize>),
    Write(#[expect(dead_code, reason = "kept to be dropped")] PyRwLockWriteGuard<'a, usize>),
}

impl Shared {
    /// The lock itself; the word in it is what messages give the address of.
    fn contains(&self, address: usize) -> bool {
        let start = std::ptr::from_ref(self).addr();
        (start..start + size_of::<Self>()).contains(&address)
    }

    fn is_locked(&self) -> bool {
        match self {
            Shared::Mutex(mutex) => mutex.is_locked(),
            Shared::RwLock(lock) => lock.is_locked(),
        }
    }

    /// Takes the lock, however long it takes.
    fn take<'a>(
        &'a self,
        py: Python<'a>,
        writes: bool,
        interruptible: bool,
    ) -> PyResult<SharedGuard<'a>> {
        Ok(match (self, writes, interruptible) {
            (Shared::Mutex(mutex), _, true) => {
                SharedGuard::Mutex(mutex.lock_with(py, Wait::new().interruptible())?)
            }
            (Shared::Mutex(mutex), _, false) => SharedGuard::Mutex(mutex.lock_checked(py)?),
            (Shared::RwLock(lock), true, true) => {
                SharedGuard::Write(lock.write_with(py, Wait::new().interruptible())?)
            }
            (Shared::RwLock(lock), true, false) => SharedGuard::Write(lock.write_checked(py)?),
            (Shared::RwLock(lock), false, true) => {
                SharedGuard::Read(lock.read_with(py, Wait::new().interruptible())?)
            }
            (Shared::RwLock(lock), false, false) => SharedGuard::Read(lock.read_checked(py)?),
        })
    }

    /// Takes the lock within that time, or at once.
    fn take_for<'a>(
        &'a self,
        py: Python<'a>,
        writes: bool,
        limit: Option<Duration>,
    ) -> Option<SharedGuard<'a>> {
        Some(match (self, writes, limit) {
            (Shared::Mutex(mutex), _, None) => SharedGuard::Mutex(mutex.try_lock(py)?),
            (Shared::Mutex(mutex), _, Some(limit)) => {
                SharedGuard::Mutex(mutex.lock_with(py, limit).ok()?)
            }
            (Shared::RwLock(lock), true, None) => SharedGuard::Write(lock.try_write(py)?),
            (Shared::RwLock(lock), true, Some(limit)) => {
                SharedGuard::Write(lock.write_with(py, limit).ok()?)
            }
            (Shared::RwLock(lock), false, None) => SharedGuard::Read(lock.try_read(py)?),
            (Shared::RwLock(lock), false, Some(limit)) => {
                SharedGuard::Read(lock.read_with(py, limit).ok()?)
            }
        })
    }
}

/// The locks that the message of a deadlock names, by their numbers.
fn named(locks: &[Shared], message: &str) -> Vec<usize> {
    let number = |rest: &str| {
        let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        let address = usize::from_str_radix(&digits, 16).expect("it is a number");
        let lock = locks.iter().position(|lock| lock.contains(address));
        lock.expect("it is one of these")
    };
    message.split(" at 0x").skip(1).map(number).collect()
}

/// Locks are taken in any order, so that there are cycles. Each thread says what it has and what it asks for. For one that is told
/// there was a time when all that the message names was so; and since it keeps what it has, it is so a good while later.
fn whoever_is_told_is_in_a_cycle(py: Python<'_>) -> PyResult<()> {
    const LOCKS: usize = 8;
    let random = Random::announced();
    let locks: Vec<Shared> = (0..LOCKS)
        .map(|number| match number % 2 {
            0 => Shared::Mutex(PyMutex::new(0)),
            _ => Shared::RwLock(PyRwLock::new(0)),
        })
        .collect();
    let sayings = Mutex::new(Sayings::default());
    // Nobody detaches with it locked.
    let sayings = || sayings.lock().expect("no panic");
    let told = AtomicUsize::new(0);
    let deadline = Instant::now() + Duration::from_secs(4);
    on_threads(py, Doings::THREADS, |py, me| {
        let mut random = random.stream(me as u64);
        // Waits for the lock, unless this would be in vain.
        let wait_for = |lock: usize, writes: bool, interruptible: bool| {
            let (then, begun) = {
                let mut sayings = sayings();
                sayings.say(me, |me| me.asks_for = Some((lock, writes)));
                (sayings.now, sayings.log.len())
            };
            let result = locks[lock].take(py, writes, interruptible);
            let mut said = sayings();
            let log = result.is_err().then(|| said.log[begun..].to_vec());
            said.say(me, |me| {
                me.asks_for = None;
                me.told += usize::from(result.is_err());
            });
            drop(said);
            let error = match result {
                Ok(guard) => return Some(guard),
                Err(error) => error,
            };
            let log = log.expect("it was kept");
            assert!(error.is_instance_of::<DeadlockError>(py), "{error}");
            told.fetch_add(1, SeqCst);
            let cycle = named(&locks, &error.to_string());
            assert_eq!(cycle.first(), Some(&lock), "{error}");
            assert!(
                then.have_confirmed(&log, &cycle, me),
                "it was not so: {error}"
            );
            py.detach(|| thread::sleep(Duration::from_millis(20)));
            let later = sayings().now;
            // If others wait for this thread only because it has asked to write, they go on once it is told.
            let last = *cycle.last().expect("there is a first");
            // One that waits for several readers can be in several cycles. It looks again when a reader leaves, and may be told of another one.
            let waits_for_readers = |doing: &Doing| {
                let asks_to_write = doing.asks_for.filter(|&(_, writes)| writes);
                asks_to_write.is_some_and(|(lock, _)| {
                    cycle.contains(&lock) && matches!(locks[lock], Shared::RwLock(_))
                })
            };
            let is_undone = (0..Doings::THREADS).any(|other| {
                let of_other = log.iter().filter(|(number, _)| *number == other);
                let mut doings = of_other.map(|(_, doing)| doing).chain([&then.0[other]]);
                other != me
                    && later.0[other].told > then.0[other].told
                    && doings.any(waits_for_readers)
            });
            assert!(
                later.confirm(&cycle, me) || last == lock && writes || is_undone,
                "it is not so: {error}"
            );
            None
        };
        while Instant::now() < deadline {
            let mut guards = Vec::new();
            let mut open: Vec<usize> = (0..LOCKS).collect();
            for _ in 0..2 + random.below(3) {
                let lock = open.swap_remove(random.below(open.len()));
                let writes = random.below(3) > 0 || matches!(locks[lock], Shared::Mutex(_));
                let guard = match random.below(8) {
                    0 => locks[lock].take_for(py, writes, None),
                    1 => {
                        let limit = Duration::from_micros(random.below(300) as u64);
                        locks[lock].take_for(py, writes, Some(limit))
                    }
                    form => match wait_for(lock, writes, form % 2 == 0) {
                        None => break,
                        guard => guard,
                    },
                };
                if let Some(guard) = guard {
                    sayings().say(me, |me| me.owns |= 1 << lock);
                    guards.push(guard);
                }
                match random.below(6) {
                    0 => finalisers::leave_one(py),
                    1 | 2 => py.detach(thread::yield_now),
                    _ => {}
                }
            }
            sayings().say(me, |me| me.owns = 0);
            drop(guards);
        }
    });

    let told = told.into_inner();
    println!("{told} cycles");
    assert!(told > 0, "no cycle has come about");
    collect(py);
    finalisers::expect_all_to_have_finished(py);
    assert!(!locks.iter().any(Shared::is_locked));
    Ok(())
}

/// A method holds the lock and calls a callback, which calls the method again: an exception with its traceback, and nothing
/// stays locked.
fn re_entry_through_python_is_an_exception(py: Python<'_>) -> PyResult<()> {
    #[pyclass(frozen)]
    struct Account {
        balance: PyMutex<i64>,
    }

    #[pymethods]
    impl Account {
        fn update(&self, py: Python<'_>, change: Bound<'_, PyAny>) -> PyResult<()> {
            let mut balance = self.balance.lock_checked(py)?;
            *balance = change.call1((*balance,))?.extract()?;
            Ok(())
        }
    }

    let account = Py::new(
        py,
        Account {
            balance: PyMutex::new(5),
        },
    )?;
    let names = PyDict::new(py);
    names.set_item("account", &account)?;
    py.run(
        c"
import traceback

def outer(balance):
    account.update(inner)
    return 0

def inner(balance):
    return 1

try:
    account.update(outer)
except RuntimeError as error:
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    kind, message = type(error).__name__, str(error)
account.update(lambda balance: balance + 1)
",
        Some(&names),
        None,
    )?;
    let get = |name| names.get_item(name).map(|value| value.expect("it is set"));
    assert_eq!(get("kind")?.extract::<String>()?, "DeadlockError");
    assert!(
        get("message")?
            .extract::<String>()?
            .contains("already holds the PyMutex")
    );
    assert_eq!(
        get("frames")?.extract::<Vec<String>>()?,
        ["<module>", "outer"]
    );
    assert_eq!(*account.get().balance.lock(py), 6);
    Ok(())
}

/// What Python code needs to tell a deadlock from other errors.
fn the_exception_is_an_ordinary_class(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<DeadlockError>();
    assert!(class.is_subclass_of::<PyRuntimeError>()?);
    assert_eq!(
        class.getattr("__module__")?.extract::<String>()?,
        "pyo3_sync"
    );
    assert!(
        class
            .getattr("__doc__")?
            .extract::<String>()?
            .contains("lock")
    );
    let module = PyModule::new(py, "mine")?;
    pyo3_sync::add_exceptions(&module)?;
    assert!(module.getattr("DeadlockError")?.is(&class));
    Ok(())
}

/// What the two threads of an import cycle ask for: one has it and imports a module, and the body of that module asks for it.
#[derive(Default)]
struct InACycle {
    cell: PyOnceLock<()>,
    once: PyOnce,
    mutex: PyMutex<()>,
    lock: PyRwLock<()>,
}

type ImportCycle = (
    &'static str,
    fn(&InACycle, Python<'_>, &dyn Fn()),
    fn(&InACycle, Python<'_>) -> PyResult<()>,
);

fn hold_cell(locks: &InACycle, py: Python<'_>, import: &dyn Fn()) {
    locks.cell.get_or_init(py, import);
}

fn hold_once(locks: &InACycle, py: Python<'_>, import: &dyn Fn()) {
    locks.once.call_once(py, import);
}

fn hold_mutex(locks: &InACycle, py: Python<'_>, import: &dyn Fn()) {
    let _guard = locks.mutex.lock(py);
    import();
}

fn hold_reading(locks: &InACycle, py: Python<'_>, import: &dyn Fn()) {
    let _guard = locks.lock.read(py);
    import();
}

fn hold_writing(locks: &InACycle, py: Python<'_>, import: &dyn Fn()) {
    let _guard = locks.lock.write(py);
    import();
}

const IMPORT_CYCLES: &[ImportCycle] = &[
    ("a_cell", hold_cell, |locks, py| {
        locks.cell.get_or_try_init_py(py, || Ok(())).copied()
    }),
    ("a_cell_checked", hold_cell, |locks, py| {
        locks.cell.get_or_init_checked(py, || ())?;
        Ok(())
    }),
    ("a_cell_panicking", hold_cell, |locks, py| {
        locks.cell.get_or_init(py, || ());
        Ok(())
    }),
    ("a_cell_waiting", hold_cell, |locks, py| {
        locks.cell.wait_with(py, Wait::new().interruptible())?;
        Ok(())
    }),
    ("a_once", hold_once, |locks, py| {
        Ok(locks.once.call_once_checked(py, || ())?)
    }),
    ("a_once_panicking", hold_once, |locks, py| {
        locks.once.call_once(py, || ());
        Ok(())
    }),
    ("a_mutex", hold_mutex, |locks, py| {
        drop(locks.mutex.lock_with(py, Wait::new().interruptible())?);
        Ok(())
    }),
    ("a_mutex_panicking", hold_mutex, |locks, py| {
        drop(locks.mutex.lock(py));
        Ok(())
    }),
    ("a_read_lock", hold_reading, |locks, py| {
        drop(locks.lock.write_checked(py)?);
        Ok(())
    }),
    ("a_read_lock_panicking", hold_reading, |locks, py| {
        drop(locks.lock.write(py));
        Ok(())
    }),
    ("a_written_lock", hold_writing, |locks, py| {
        drop(locks.lock.read_with(py, Wait::new().interruptible())?);
        Ok(())
    }),
    ("a_written_lock_panicking", hold_writing, |locks, py| {
        drop(locks.lock.read(py));
        Ok(())
    }),
];

/// A folder that modules can be imported from.
fn folder_of_modules(py: Python<'_>) -> PyResult<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    py.import("sys")?
        .getattr("path")?
        .call_method1("insert", (0, folder.path().to_str()))?;
    Ok(folder)
}

/// Puts a module there that calls `ask` when it is imported.
fn write_module(
    py: Python<'_>,
    folder: &tempfile::TempDir,
    module: &str,
    ask: Callback,
) -> PyResult<()> {
    let code = format!("import sys\nanswer = 42\nsys.{module}()\n");
    std::fs::write(folder.path().join(format!("{module}.py")), code)?;
    py.import("importlib")?.call_method0("invalidate_caches")?;
    py.import("sys")?.setattr(module, ask)
}

/// Thread A has a lock, or fills a cell, and imports a module; thread B is importing that module, whose body asks for it. It is told
/// within a second, on a machine that is not busy for one of three times.
fn a_cycle_through_an_import_lock_is_seen(py: Python<'_>) -> PyResult<()> {
    silence_deadlocks();
    let folder = folder_of_modules(py)?;
    for &(name, hold, ask) in IMPORT_CYCLES {
        let mut took = Vec::new();
        while took
            .last()
            .is_none_or(|last| *last >= Duration::from_secs(1))
        {
            let attempt = took.len();
            assert!(attempt < 3, "{name}: {took:?}");
            let module = format!("asks_for_{name}_{attempt}");
            took.push(import_cycle(py, &folder, &module, hold, ask)?);
        }
    }
    Ok(())
}

/// Gives how long it took until the body was told.
fn import_cycle(
    py: Python<'_>,
    folder: &tempfile::TempDir,
    module: &str,
    hold: fn(&InACycle, Python<'_>, &dyn Fn()),
    ask: fn(&InACycle, Python<'_>) -> PyResult<()>,
) -> PyResult<Duration> {
    let locks = Arc::new(InACycle::default());
    let runs = Arc::new(AtomicUsize::new(0));
    let told_after = Arc::new(Mutex::new(None));
    let body = {
        let (locks, runs) = (Arc::clone(&locks), Arc::clone(&runs));
        let told_after = Arc::clone(&told_after);
        Callback::new(move |py| {
            if runs.fetch_add(1, SeqCst) > 0 {
                return Ok(()); // Thread A, after the import of thread B has failed.
            }
            wait_until_an_import_blocks(py)?;
            let start = Instant::now();
            let result = caught(|| ask(&locks, py)).map_err(PyRuntimeError::new_err);
            *told_after.lock().expect("no panic") = Some(start.elapsed());
            result?
        })
    };
    write_module(py, folder, module, body)?;
    let (imported, ()) = on_two_threads(
        py,
        |py| py.import(module).map(drop),
        |py| {
            wait_until(py, "the body runs", || runs.load(SeqCst) > 0);
            // It fails as that of the other thread does, or runs the body again.
            hold(&locks, py, &|| drop(py.import(module)));
        },
    );
    let error = imported.expect_err("the body was told");
    if !module.contains("panicking") {
        assert!(error.is_instance_of::<DeadlockError>(py), "{error}");
    }
    let message = error.value(py).to_string();
    for part in [
        "deadlock: 2 threads wait for each other",
        &format!("waits to import the module \"{module}\""),
    ] {
        assert!(message.contains(part), "{module}: {message}");
    }
    let is_of_value = module.contains("a_cell") || module.contains("a_once");
    let advice = if is_of_value {
        "import the module before initializing the value"
    } else {
        "import the module before acquiring the lock"
    };
    expect_advice(&message, advice);
    assert!(!locks.mutex.is_locked() && !locks.lock.is_locked());
    let told_after = told_after.lock().expect("no panic").take();
    Ok(told_after.expect("the body was told"))
}

/// A thread that is importing waits for a lock whose owner waits for another lock, whose owner waits for that import.
fn a_longer_cycle_through_an_import_lock_is_seen(py: Python<'_>) -> PyResult<()> {
    static FIRST: PyMutex<()> = PyMutex::new(());
    static SECOND: PyMutex<()> = PyMutex::new(());
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let module = "asks_for_the_second";
    let folder = folder_of_modules(py)?;
    let body = Callback::new(|py| {
        if RUNS.fetch_add(1, SeqCst) > 0 {
            return Ok(()); // The thread that waited for the import, after it has failed.
        }
        wait_until_an_import_blocks(py)?;
        wait_until(py, "the second is locked", || SECOND.is_locked());
        SECOND.lock_checked(py).map(drop).map_err(PyErr::from)
    });
    write_module(py, &folder, module, body)?;
    let results = on_threads(py, 3, |py, number| {
        match number {
            0 => drop(py.import(module)?),
            1 => {
                wait_until(py, "the body runs", || RUNS.load(SeqCst) > 0);
                let _first = FIRST.lock(py);
                // It fails as that of the other thread does, runs the body again, or, where that of the other thread has just failed, does
                // not find in `sys.modules` what it put there (`KeyError`).
                drop(py.import(module));
            }
            _ => {
                let _second = SECOND.lock(py);
                wait_until(py, "the first is locked", || FIRST.is_locked());
                drop(FIRST.lock_checked(py)?);
            }
        }
        Ok(())
    });
    let errors: Vec<PyErr> = results.into_iter().filter_map(Result::err).collect();
    assert!(!errors.is_empty(), "somebody is told");
    for error in errors {
        assert!(error.is_instance_of::<DeadlockError>(py), "{error}");
        let message = error.value(py).to_string();
        for part in [
            "deadlock: 3 threads wait for each other",
            &format!("waits to import the module \"{module}\""),
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert!(!FIRST.is_locked() && !SECOND.is_locked());
    Ok(())
}

/// The same where thread A only imports, and the body asks for the same import: nobody waits for the other's, and nobody is told.
fn what_only_imports_is_in_no_cycle(py: Python<'_>) -> PyResult<()> {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static IMPORT: PyImport = PyImport::new("inverts_an_import", "answer");
    static MODULE: PyImport<PyModule> = PyImport::module("inverts_a_module");
    type Get = fn(Python<'_>) -> PyResult<()>;
    let cases: [(&str, Get); 3] = [
        ("inverts_a_cell", |py| {
            let answer: i32 = CELL.import(py, "inverts_a_cell", "answer")?.extract()?;
            assert_eq!(answer, 42);
            Ok(())
        }),
        ("inverts_an_import", |py| {
            assert_eq!(IMPORT.get(py)?.extract::<i32>()?, 42);
            Ok(())
        }),
        ("inverts_a_module", |py| {
            assert_eq!(MODULE.get(py)?.getattr("answer")?.extract::<i32>()?, 42);
            Ok(())
        }),
    ];
    let folder = folder_of_modules(py)?;
    for (module, get) in cases {
        let runs = Arc::new(AtomicUsize::new(0));
        let body = {
            let runs = Arc::clone(&runs);
            Callback::new(move |py| {
                runs.fetch_add(1, SeqCst);
                wait_until_an_import_blocks(py)?;
                get(py)
            })
        };
        write_module(py, &folder, module, body)?;
        let (first, second) = on_two_threads(
            py,
            |py| py.import(module).map(drop),
            |py| {
                wait_until(py, "the body runs", || runs.load(SeqCst) > 0);
                get(py)
            },
        );
        first.and(second)?;
        assert_eq!(runs.load(SeqCst), 1, "{module}");
    }
    Ok(())
}

/// Two modules import each other from two threads. CPython raises `_DeadlockError` in one of them,
/// and the repeated import succeeds.
fn imports_refused_by_the_interpreter_are_repeated(py: Python<'_>) -> PyResult<()> {
    static FIRST: PyImport = PyImport::new("circular_0", "answer");
    static SECOND: PyImport<PyModule> = PyImport::module("circular_1");
    static CELLS: [PyOnceLock<Py<PyAny>>; 2] = [PyOnceLock::new(), PyOnceLock::new()];
    type Get = fn(Python<'_>, usize) -> PyResult<()>;
    let gets: [Get; 2] = [
        |py, number| match number {
            0 => FIRST.get(py).map(drop),
            _ => SECOND.get(py).map(drop),
        },
        |py, number| {
            let module = format!("circular_{}", number + 2);
            CELLS[number].import(py, &module, "answer").map(drop)
        },
    ];
    let folder = folder_of_modules(py)?;
    for (pair, get) in gets.into_iter().enumerate() {
        // Later runs of the bodies belong to repetitions.
        let (barrier, runs) = (Barrier::new(2), AtomicUsize::new(0));
        let meet = Callback::new(move |py| {
            if runs.fetch_add(1, SeqCst) < 2 {
                barrier.meet(py);
            }
            Ok(())
        });
        py.import("sys")?.setattr("meet", meet)?;
        let modules = [pair * 2, pair * 2 + 1];
        for (module, other) in [(modules[0], modules[1]), (modules[1], modules[0])] {
            let code = format!(
                "import importlib, sys\nsys.meet()\n\
                 importlib.import_module('circular_{other}')\nanswer = 42\n"
            );
            std::fs::write(folder.path().join(format!("circular_{module}.py")), code)?;
        }
        py.import("importlib")?.call_method0("invalidate_caches")?;
        for result in on_threads(py, 2, get) {
            result?;
        }
    }
    Ok(())
}

/// One thread imports a module of a package, another the package, which imports the module
/// (cpython#83065). Repetitions in the body of the package fail, and end; that of the import of the
/// package succeeds.
fn repeated_imports_that_fail_end(py: Python<'_>) -> PyResult<()> {
    static PACKAGE: PyImport = PyImport::new("circular", "answer");
    static MODULE: PyImport = PyImport::new("circular.module", "answer");
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let body = Callback::new(|py| {
        if RUNS.fetch_add(1, SeqCst) == 0 {
            wait_until_an_import_blocks(py)?;
        }
        MODULE.get(py).map(drop)
    });
    let folder = folder_of_modules(py)?;
    write_module(py, &folder, "circular", body)?;
    let package = folder.path().join("circular");
    std::fs::create_dir(&package)?;
    std::fs::rename(
        folder.path().join("circular.py"),
        package.join("__init__.py"),
    )?;
    std::fs::write(package.join("module.py"), "answer = 42\n")?;
    py.import("importlib")?.call_method0("invalidate_caches")?;
    let (package, module) = on_two_threads(
        py,
        |py| PACKAGE.get(py).map(drop),
        |py| {
            wait_until(py, "the body runs", || RUNS.load(SeqCst) > 0);
            MODULE.get(py).map(drop)
        },
    );
    package.and(module)
}

/// Threads that sleep for longer than it takes to look, in the midst of imports that come to an end, are left alone.
fn an_import_that_goes_on_is_no_cycle(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    let folder = folder_of_modules(py)?;
    let ask = Callback::new(|py| {
        *MUTEX.lock_checked(py)? += 1;
        Ok(())
    });
    py.import("sys")?.setattr("ask_for_it", ask)?;
    for number in 0..3 {
        std::fs::write(
            folder.path().join(format!("slow_{number}.py")),
            "import sys\nsys.ask_for_it()\n",
        )?;
    }
    let locked = AtomicBool::new(false);
    on_threads(py, 4, |py, number| {
        if number == 3 {
            let mut guard = MUTEX.lock(py);
            let value = &mut *guard;
            locked.store(true, SeqCst);
            py.detach(|| {
                thread::sleep(Duration::from_millis(1500)); // Longer than two looks.
                *value += 1;
            });
            return Ok(());
        }
        wait_until(py, "it is locked", || locked.load(SeqCst));
        py.import(format!("slow_{number}")).map(drop)
    })
    .into_iter()
    .collect::<PyResult<()>>()?;
    assert_eq!(*MUTEX.lock(py), 4);
    Ok(())
}

/// The message names threads that Python started by the names they have there.
fn threads_are_called_by_their_names(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    let names = PyDict::new(py);
    let twice = Callback::new(|py| {
        let _guard = MUTEX.lock_checked(py)?;
        MUTEX.lock_checked(py).map(drop)?;
        Ok(())
    });
    names.set_item("twice", twice)?;
    let code = "import threading; threading.current_thread().name = 'Klara'; twice()";
    let error = PythonThread::start(code, &names)?.join(py).unwrap_err();
    assert!(
        error.to_string().contains("thread \"Klara\" (0x"),
        "{error}"
    );
    // And one that Rust started by that one.
    let message = thread::scope(|scope| {
        let thread = thread::Builder::new().name("Anton".to_owned());
        let body = || {
            Python::attach(|py| {
                let _guard = MUTEX.lock(py);
                panic_of(|| drop(MUTEX.lock(py)))
            })
        };
        let thread = thread.spawn_scoped(scope, body).expect("it starts");
        py.detach(|| thread.join().expect("it ends"))
    });
    assert!(message.contains("thread \"Anton\" (0x"), "{message}");
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(two_threads_that_want_each_others_lock),
        test!(two_cells_that_need_each_other),
        test!(the_forms_without_a_result_panic),
        test!(whoever_attaches_to_lock_is_told),
        test!(no_cycle_is_missed).limit(60),
        test!(no_cycle_of_cells_is_missed).limit(30),
        test!(nobody_is_told_without_reason).limit(30),
        test!(whoever_is_told_is_in_a_cycle).limit(30),
        test!(re_entry_through_python_is_an_exception),
        test!(the_exception_is_an_ordinary_class),
        test!(a_cycle_through_an_import_lock_is_seen).limit(60),
        test!(a_longer_cycle_through_an_import_lock_is_seen).limit(20),
        test!(what_only_imports_is_in_no_cycle),
        test!(imports_refused_by_the_interpreter_are_repeated),
        test!(repeated_imports_that_fail_end),
        test!(an_import_that_goes_on_is_no_cycle).limit(20),
        test!(threads_are_called_by_their_names).limit(30),
    ],
    scenarios: &[],
};
