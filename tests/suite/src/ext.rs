//! The traits of `pyo3_sync::ext`: locks of `std` and `lock_api` that detached threads use too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{self, Arc, Condvar, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::lock_api;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::ext::{
    BarrierExt, CondvarExt, MutexArcExt, MutexExt, OnceExt, OnceLockExt, RwLockArcExt, RwLockExt,
};

use crate::callback::Callback;
use crate::harness::{
    PythonThread, Sleeper, child, finish, is_free_threaded, on_threads, wait_until,
};
use crate::interpreter::collect;
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::{scenario, test};

/// Attached threads take a lock, hold it across detachments, and lose no count; detached threads of `std` are among them.
macro_rules! nothing_is_lost {
    ($py:expr, $detached:expr, $py_name:ident => $attached:expr) => {{
        const EACH: usize = 1000;
        let add = |data: &mut (usize, usize)| {
            data.0 += 1;
            thread::yield_now();
            data.1 += 1;
            assert_eq!(data.0, data.1);
        };
        thread::scope(|scope| {
            let detached = scope.spawn(|| {
                for _ in 0..EACH {
                    add(&mut *$detached);
                }
            });
            on_threads($py, 3, |$py_name, _| {
                for _ in 0..EACH {
                    let mut guard = $attached;
                    let data = &mut *guard;
                    $py_name.detach(|| add(data));
                }
            });
            $py.detach(|| detached.join())
                .expect("the thread has not panicked");
        });
        assert_eq!($detached.0, 4 * EACH);
    }};
}

fn nothing_is_lost(py: Python<'_>) -> PyResult<()> {
    let mutex = Mutex::new((0, 0));
    nothing_is_lost!(py, mutex.lock().unwrap(), py => mutex.lock_attached(py).unwrap());
    let rwlock = RwLock::new((0, 0));
    nothing_is_lost!(py, rwlock.write().unwrap(), py => {
        drop(rwlock.read_attached(py).unwrap());
        rwlock.write_attached(py).unwrap()
    });
    let mutex = parking_lot::Mutex::new((0, 0));
    nothing_is_lost!(py, mutex.lock(), py => mutex.lock_attached(py));
    let rwlock = parking_lot::RwLock::new((0, 0));
    nothing_is_lost!(py, rwlock.write(), py => {
        drop(rwlock.read_attached(py));
        rwlock.write_attached(py)
    });
    let mutex = Arc::new(parking_lot::Mutex::new((0, 0)));
    nothing_is_lost!(py, mutex.lock(), py => mutex.lock_arc_attached(py));
    let rwlock = Arc::new(parking_lot::RwLock::new((0, 0)));
    nothing_is_lost!(py, rwlock.write(), py => {
        drop(rwlock.read_arc_attached(py));
        rwlock.write_arc_attached(py)
    });
    Ok(())
}

fn a_reentrant_mutex(py: Python<'_>) -> PyResult<()> {
    let mutex = Arc::new(parking_lot::ReentrantMutex::new(
        sync::atomic::AtomicUsize::new(0),
    ));
    on_threads(py, 4, |py, _| {
        for _ in 0..200 {
            let outer = mutex.lock_attached(py);
            let inner = mutex.lock_arc_attached(py);
            let before = outer.load(SeqCst);
            py.detach(thread::yield_now);
            inner.store(before + 1, SeqCst);
        }
    });
    assert_eq!(mutex.lock_attached(py).load(SeqCst), 800);
    Ok(())
}

fn python_objects_behind_a_lock(py: Python<'_>) -> PyResult<()> {
    let (mutex, rwlock) = (Mutex::new(Vec::new()), RwLock::new(Vec::new()));
    on_threads(py, 4, |py, number| {
        mutex.lock_py_attached(py).unwrap().push(py.None());
        rwlock.write_py_attached(py).unwrap().push(number);
        assert!(!rwlock.read_py_attached(py).unwrap().is_empty());
    });
    assert_eq!(mutex.lock_attached(py).unwrap().len(), 4);
    // Data that stay on their thread, and such whose size is not known.
    let unsized_data: &Mutex<[std::rc::Rc<usize>]> = &Mutex::new([std::rc::Rc::new(1)]);
    assert_eq!(*unsized_data.lock_attached(py).unwrap()[0], 1);
    Ok(())
}

fn poison_is_passed_on(py: Python<'_>) -> PyResult<()> {
    let (mutex, rwlock) = (Mutex::new(1), RwLock::new(2));
    panic_of(|| {
        let _guards = (mutex.lock_attached(py), rwlock.write_attached(py));
        panic!("under the guards");
    });
    assert_eq!(*mutex.lock_attached(py).unwrap_err().into_inner(), 1);
    assert_eq!(*rwlock.read_attached(py).unwrap_err().into_inner(), 2);
    assert_eq!(*rwlock.write_attached(py).unwrap_err().into_inner(), 2);
    // To a thread that waits as well.
    let held = mutex.lock_attached(py).unwrap_err().into_inner();
    let waiter = Sleeper::default();
    thread::scope(|scope| {
        let waiter = &waiter;
        let mutex = &mutex;
        let told = scope.spawn(move || {
            Python::attach(|py| {
                waiter.announce();
                mutex.lock_attached(py).is_err()
            })
        });
        wait_until(py, "a thread waits", || waiter.is_asleep());
        drop(held);
        assert!(py.detach(|| told.join()).unwrap());
    });
    Ok(())
}

/// Counts how often the methods that block were called, and how often they have returned.
struct Counting<R> {
    raw: R,
    asked: AtomicUsize,
    taken: AtomicUsize,
}

impl<R> Counting<R> {
    const fn new(raw: R) -> Self {
        Counting {
            raw,
            asked: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    fn count<T>(&self, take: impl FnOnce(&R) -> T) -> T {
        self.asked.fetch_add(1, SeqCst);
        let result = take(&self.raw);
        self.taken.fetch_add(1, SeqCst);
        result
    }

    fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }

    /// Whether a thread is in one of them.
    fn is_asked_for(&self) -> bool {
        self.asked.load(SeqCst) > self.taken()
    }
}

// SAFETY: `raw` does what the trait asks for.
unsafe impl lock_api::RawMutex for Counting<parking_lot::RawMutex> {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = Counting::new(parking_lot::RawMutex::INIT);
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        self.count(parking_lot::RawMutex::lock);
    }

    fn try_lock(&self) -> bool {
        self.raw.try_lock()
    }

    unsafe fn unlock(&self) {
        // SAFETY: the caller owns it.
        unsafe { self.raw.unlock() };
    }
}

// SAFETY: as above.
unsafe impl lock_api::RawRwLock for Counting<parking_lot::RawRwLock> {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = Counting::new(parking_lot::RawRwLock::INIT);
    type GuardMarker = lock_api::GuardNoSend;

    fn lock_shared(&self) {
        self.count(parking_lot::RawRwLock::lock_shared);
    }

    fn try_lock_shared(&self) -> bool {
        self.raw.try_lock_shared()
    }

    unsafe fn unlock_shared(&self) {
        // SAFETY: the caller owns it.
        unsafe { self.raw.unlock_shared() };
    }

    fn lock_exclusive(&self) {
        self.raw.lock_exclusive();
    }

    fn try_lock_exclusive(&self) -> bool {
        self.raw.try_lock_exclusive()
    }

    unsafe fn unlock_exclusive(&self) {
        // SAFETY: the caller owns it.
        unsafe { self.raw.unlock_exclusive() };
    }
}

/// A reader that has waited must not own the lock while it attaches: the writer that stays attached, and waits for it by
/// the lock's own method, would wait for ever. (With PyO3's `RwLockExt` this test hangs: with a GIL at once, without
/// one when a collection stops the world.)
fn a_reader_owns_nothing_while_it_attaches(py: Python<'_>) -> PyResult<()> {
    let lock: lock_api::RwLock<Counting<parking_lot::RawRwLock>, ()> = lock_api::RwLock::new(());
    // SAFETY: only the counters are looked at.
    let raw = unsafe { lock.raw() };
    let (done, reader) = (AtomicBool::new(false), Sleeper::default());
    on_threads(py, 3, |py, number| match number {
        0 => {
            let _done = OnDrop(|| done.store(true, SeqCst));
            wait_until(py, "there is a reader", || reader.is_announced());
            for _ in 0..50 {
                let writing = lock.write_attached(py);
                wait_until(py, "the reader waits", || {
                    raw.is_asked_for() && reader.is_asleep()
                });
                let before = raw.taken();
                drop(writing);
                // Attached: where there is a GIL the reader cannot attach before this thread is done.
                let deadline = Instant::now() + Duration::from_secs(1);
                while raw.taken() == before && Instant::now() < deadline {
                    thread::yield_now();
                }
                drop(lock.write());
            }
        }
        1 => {
            reader.announce();
            while !done.load(SeqCst) {
                drop(lock.read_attached(py));
                py.detach(thread::yield_now);
            }
        }
        _ => {
            while is_free_threaded(py) && !done.load(SeqCst) {
                collect(py);
                py.detach(thread::yield_now);
            }
        }
    });
    Ok(())
}

static AT_EXIT: lock_api::Mutex<Counting<parking_lot::RawMutex>, ()> = lock_api::Mutex::new(());

/// A thread that waited, and cannot attach any more, must not keep the lock. (With PyO3's `MutexExt` the child hangs.)
fn nothing_is_lost_at_exit(py: Python<'_>) -> PyResult<()> {
    let finished = finish(py, child(py, "ext::waits_at_exit")?, Duration::from_secs(8))?;
    finished.expect_success();
    assert!(
        finished.output.ends_with("the call returned"),
        "{}",
        finished.output
    );
    Ok(())
}

fn waits_at_exit(py: Python<'_>) -> PyResult<()> {
    static OWNED: AtomicBool = AtomicBool::new(false);
    static WAITER: Sleeper = Sleeper::new();
    static LEAVE: sync::Barrier = sync::Barrier::new(2);
    thread::spawn(|| {
        let _guard = AT_EXIT.lock();
        OWNED.store(true, SeqCst);
        LEAVE.wait();
    });
    wait_until(py, "it is owned", || OWNED.load(SeqCst));
    let wait = Callback::new(|py| {
        WAITER.announce();
        drop(AT_EXIT.lock_attached(py));
        Ok(())
    });
    let names = PyDict::new(py);
    names.set_item("wait", wait)?;
    PythonThread::start("wait()", &names)?;
    // SAFETY: only the counters are looked at.
    let raw = unsafe { AT_EXIT.raw() };
    wait_until(py, "a thread waits", || {
        raw.asked.load(SeqCst) == 2 && WAITER.is_asleep()
    });
    Callback::new(|py| {
        // SAFETY: only the counters are looked at.
        let raw = unsafe { AT_EXIT.raw() };
        let before = raw.taken();
        LEAVE.wait_attached(py);
        wait_until(py, "the waiter has got it", || raw.taken() > before);
        drop(AT_EXIT.lock_attached(py));
        Ok(())
    })
    .at_finalisation(py)
}

fn once(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let (once, cell, runs) = (Once::new(), OnceLock::new(), AtomicUsize::new(0));
        on_threads(py, 4, |py, number| {
            let run = || {
                py.detach(thread::yield_now);
                runs.fetch_add(1, SeqCst);
            };
            match number % 2 {
                0 => once.call_once_attached(py, run),
                _ => once.call_once_force_attached(py, |_| run()),
            }
            assert_eq!(
                *cell.get_or_init_attached(py, || {
                    py.detach(thread::yield_now);
                    runs.fetch_add(1, SeqCst)
                }),
                1
            );
        });
        assert_eq!(runs.into_inner(), 2);
    }
    let once = Once::new();
    panic_of(|| once.call_once_attached(py, || panic!("first")));
    panic_of(|| once.call_once_attached(py, || ()));
    once.call_once_force_attached(py, |state| assert!(state.is_poisoned()));
    assert!(once.is_completed());
    Ok(())
}

/// A bounded queue between detached threads and attached ones.
fn condition_variables(py: Python<'_>) -> PyResult<()> {
    const EACH: usize = 1000;
    let (queue, added, removed) = (Mutex::new(VecDeque::new()), Condvar::new(), Condvar::new());
    let sum = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for item in 0..EACH {
                    let items = queue.lock().unwrap();
                    let mut items = removed.wait_while(items, |items| items.len() >= 2).unwrap();
                    items.push_back(item);
                    drop(items);
                    added.notify_one();
                }
            });
        }
        on_threads(py, 2, |py, number| {
            for _ in 0..EACH {
                let items = queue.lock_attached(py).unwrap();
                let is_empty = |items: &mut VecDeque<usize>| items.is_empty();
                let limit = Duration::from_secs(8);
                let mut items = if number == 0 {
                    added
                        .wait_while_attached(py, &queue, items, is_empty)
                        .unwrap()
                } else {
                    let (items, result) = added
                        .wait_timeout_while_attached(py, &queue, items, limit, is_empty)
                        .unwrap();
                    assert!(!result.timed_out());
                    items
                };
                sum.fetch_add(items.pop_front().expect("it is not empty"), SeqCst);
                drop(items);
                removed.notify_one();
            }
        });
    });
    assert_eq!(sum.into_inner(), EACH * (EACH - 1));
    Ok(())
}

fn time_limits(py: Python<'_>) -> PyResult<()> {
    let (mutex, changed, limit) = (Mutex::new(0), Condvar::new(), Duration::from_millis(30));
    let start = Instant::now();
    let guard = mutex.lock_attached(py).unwrap();
    let mut result = changed
        .wait_timeout_attached(py, &mutex, guard, limit)
        .unwrap();
    // It may also end for no reason.
    while !result.1.timed_out() {
        result = changed
            .wait_timeout_attached(py, &mutex, result.0, limit)
            .unwrap();
    }
    assert!(start.elapsed() >= limit);
    let start = Instant::now();
    let (guard, result) = changed
        .wait_timeout_while_attached(py, &mutex, result.0, limit, |_| true)
        .unwrap();
    assert!(result.timed_out() && start.elapsed() >= limit);
    let (guard, result) = changed
        .wait_timeout_while_attached(py, &mutex, guard, limit, |_| false)
        .unwrap();
    assert!(!result.timed_out());
    assert!(mutex.try_lock().is_err(), "the guard still has it");
    drop(guard);
    assert!(mutex.try_lock().is_ok());
    Ok(())
}

fn waiting_with_the_guard_of_another_mutex(py: Python<'_>) -> PyResult<()> {
    let (mutex, other, changed) = (Mutex::new(0), Mutex::new(0), Condvar::new());
    let message = panic_of(|| {
        let guard = mutex.lock_attached(py).unwrap();
        changed.wait_timeout_attached(py, &other, guard, Duration::from_millis(1))
    });
    assert!(message.contains("pass the mutex that the guard came from"));
    assert!(mutex.try_lock().is_ok());
    Ok(())
}

fn barriers(py: Python<'_>) -> PyResult<()> {
    let (barrier, leaders) = (sync::Barrier::new(3), AtomicUsize::new(0));
    let count = |result: sync::BarrierWaitResult| {
        leaders.fetch_add(result.is_leader().into(), SeqCst);
    };
    thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|_| count(barrier.wait())));
        on_threads(py, 2, |py, _| {
            (0..100).for_each(|_| count(barrier.wait_attached(py)));
        });
    });
    assert_eq!(leaders.into_inner(), 100);
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(nothing_is_lost).limit(30),
        test!(a_reentrant_mutex),
        test!(python_objects_behind_a_lock),
        test!(poison_is_passed_on),
        test!(a_reader_owns_nothing_while_it_attaches).limit(20),
        test!(nothing_is_lost_at_exit).limit(20),
        test!(once),
        test!(condition_variables).limit(20),
        test!(time_limits),
        test!(waiting_with_the_guard_of_another_mutex),
        test!(barriers),
    ],
    scenarios: &[scenario!(waits_at_exit)],
};
