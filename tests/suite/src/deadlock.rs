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
    PyMutex, PyMutexGuard, PyOnceLock, PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard,
};

use crate::callback::Callback;
use crate::harness::{
    Barrier, PythonThread, on_threads, on_two_threads, wait_until, wait_until_detached,
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
    assert!(
        message.contains("2 threads wait for each other"),
        "{message}"
    );
    assert_eq!(
        message
            .matches("asked at tests/suite/src/deadlock.rs:")
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
                .matches("held (since tests/suite/src/deadlock.rs:")
                .count(),
            2
        );
    }
    Ok(())
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
    assert!(!mutex.is_locked());
    assert!(cell.is_initialized() || cell.get_or_init(py, || 3) == &3);
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

    /// Asks for the link, in one of the forms in which threads can. Those without a result panic when they are told.
    fn ask(&self, py: Python<'_>, form: usize) -> Result<(), String> {
        fn text(error: impl ToString) -> String {
            error.to_string()
        }
        match self {
            Link::Mutex(mutex) => match form % 6 {
                0 => drop(mutex.lock(py)),
                1 => drop(mutex.lock_py_attached(py)),
                2 | 3 => drop(mutex.lock_checked(py).map_err(text)?),
                4 => drop(mutex.lock_interruptible(py).map_err(text)?),
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
                _ => drop(lock.read_interruptible(py).map_err(text)?),
            },
            Link::Written(lock) | Link::Read(lock) => match form / 2 % 4 {
                0 => drop(lock.write(py)),
                1 | 2 => drop(lock.write_checked(py).map_err(text)?),
                _ => drop(lock.write_interruptible(py).map_err(text)?),
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
                    py.detach(|| spin_until(|| self.ready.load(SeqCst) == size));
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
                py.detach(|| spin_until(|| rings[before].is_over()));
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

/// Short waits of many threads, one after the other: sleeping for each would take the test's time.
fn spin_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "a ring has come to a standstill"
        );
        thread::yield_now();
    }
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
                1 => mutex.try_lock_for(py, Duration::from_micros(random.below(300) as u64)),
                2 => Some(mutex.lock_interruptible(py).expect("there is no cycle")),
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
            (Shared::Mutex(mutex), _, true) => SharedGuard::Mutex(mutex.lock_interruptible(py)?),
            (Shared::Mutex(mutex), _, false) => SharedGuard::Mutex(mutex.lock_checked(py)?),
            (Shared::RwLock(lock), true, true) => SharedGuard::Write(lock.write_interruptible(py)?),
            (Shared::RwLock(lock), true, false) => SharedGuard::Write(lock.write_checked(py)?),
            (Shared::RwLock(lock), false, true) => SharedGuard::Read(lock.read_interruptible(py)?),
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
                SharedGuard::Mutex(mutex.try_lock_for(py, limit)?)
            }
            (Shared::RwLock(lock), true, None) => SharedGuard::Write(lock.try_write(py)?),
            (Shared::RwLock(lock), true, Some(limit)) => {
                SharedGuard::Write(lock.try_write_for(py, limit)?)
            }
            (Shared::RwLock(lock), false, None) => SharedGuard::Read(lock.try_read(py)?),
            (Shared::RwLock(lock), false, Some(limit)) => {
                SharedGuard::Read(lock.try_read_for(py, limit)?)
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
            said.say(me, |me| me.asks_for = None);
            drop(said);
            let error = match result {
                Ok(guard) => return Some(guard),
                Err(error) => error,
            };
            assert!(error.is_instance_of::<DeadlockError>(py), "{error}");
            told.fetch_add(1, SeqCst);
            let cycle = named(&locks, &error.to_string());
            assert_eq!(cycle.first(), Some(&lock), "{error}");
            assert!(
                then.have_confirmed(&log.expect("it was kept"), &cycle, me),
                "it was not so: {error}"
            );
            py.detach(|| thread::sleep(Duration::from_millis(20)));
            let later = sayings().now;
            // If others wait for this thread only because it has asked to write, they go on once it is told.
            let last = *cycle.last().expect("there is a first");
            assert!(
                later.confirm(&cycle, me) || last == lock && writes,
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
            .contains("which it already holds")
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

/// Thread A fills a cell, or holds a mutex, and imports a module; thread B is importing that module, whose body asks for it.
fn a_cycle_through_an_import_lock_is_seen(py: Python<'_>) -> PyResult<()> {
    static CELL: PyOnceLock<i32> = PyOnceLock::new();
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    static BODY_RUNS: AtomicBool = AtomicBool::new(false);
    let folder = tempfile::tempdir()?;
    let sys = py.import("sys")?;
    sys.getattr("path")?
        .call_method1("insert", (0, folder.path().to_str()))?;
    for (module, uses_cell) in [("asks_for_a_cell", true), ("asks_for_a_mutex", false)] {
        BODY_RUNS.store(false, SeqCst);
        std::fs::write(
            folder.path().join(format!("{module}.py")),
            "import sys\nsys.ask()\n",
        )?;
        py.import("importlib")?.call_method0("invalidate_caches")?;
        let ask = Callback::new(move |py| {
            BODY_RUNS.store(true, SeqCst);
            wait_until_an_import_blocks(py)?;
            let start = Instant::now();
            let result = if uses_cell {
                CELL.get_or_try_init_py(py, || Ok(1)).map(drop)
            } else {
                MUTEX.lock_interruptible(py).map(drop)
            };
            assert!(start.elapsed() < Duration::from_secs(3));
            result
        });
        sys.setattr("ask", ask)?;
        let (filled, imported) = on_two_threads(
            py,
            |py| {
                py.detach(|| wait_until_detached("the body runs", || BODY_RUNS.load(SeqCst)));
                if uses_cell {
                    // The import fails as the body does, or finds the module gone and runs the body again, which is told at once.
                    CELL.get_or_try_init_py(py, || Ok(py.import(module).is_ok().into()))
                        .map(|_| ())
                } else {
                    let _guard = MUTEX.lock(py);
                    drop(py.import(module));
                    Ok(())
                }
            },
            |py| py.import(module).map(drop),
        );
        let error = imported.expect_err("the body was told");
        assert!(error.is_instance_of::<DeadlockError>(py), "{error}");
        let message = error.value(py).to_string();
        assert!(
            message.contains("2 threads wait for each other"),
            "{message}"
        );
        assert!(
            message.contains(&format!("imports the module \"{module}\"")),
            "{message}"
        );
        filled?;
        assert!(!MUTEX.is_locked());
    }
    Ok(())
}

/// Threads that sleep for longer than it takes to look, in the midst of imports that come to an end, are left alone.
fn an_import_that_goes_on_is_no_cycle(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    let folder = tempfile::tempdir()?;
    let sys = py.import("sys")?;
    sys.getattr("path")?
        .call_method1("insert", (0, folder.path().to_str()))?;
    let ask = Callback::new(|py| {
        *MUTEX.lock_checked(py)? += 1;
        Ok(())
    });
    sys.setattr("ask_for_it", ask)?;
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
        test!(no_cycle_is_missed).limit(60),
        test!(no_cycle_of_cells_is_missed).limit(30),
        test!(nobody_is_told_without_reason).limit(30),
        test!(whoever_is_told_is_in_a_cycle).limit(30),
        test!(re_entry_through_python_is_an_exception),
        test!(the_exception_is_an_ordinary_class),
        test!(a_cycle_through_an_import_lock_is_seen).limit(20),
        test!(an_import_that_goes_on_is_no_cycle).limit(20),
        test!(threads_are_called_by_their_names),
    ],
    scenarios: &[],
};
