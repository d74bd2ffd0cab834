//! `PyMutex`: mutual exclusion, waiting detached, and no hang.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyZeroDivisionError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::{
    ArcPyMutexGuard, MappedPyMutexGuard, PyCondvar, PyMutex, PyMutexGuard, PyOnceLock, PyRwLock,
    TryAttachedError, Wait, WaitError,
};

use crate::callback::Callback;
use crate::harness::{
    Barrier, PythonThread, Sleeper, child, finish, on_threads, on_two_threads, wait_until,
    wait_until_detached, work_for,
};
use crate::interpreter::{collect, without_letting_go};
use crate::panics::{OnDrop, panic_of};
use crate::random::Random;
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(6);

/// A thread that cannot go on, wherever it is: the handler of a signal does not return. One at a time.
#[cfg(unix)]
struct Detained;

#[cfg(unix)]
static DETAIN: AtomicBool = AtomicBool::new(false);
#[cfg(unix)]
static IS_DETAINED: AtomicBool = AtomicBool::new(false);

#[cfg(unix)]
impl Detained {
    /// # Safety
    ///
    /// The thread lives until this is dropped.
    unsafe fn new(thread: libc::pthread_t) -> Self {
        extern "C" fn detain(_signal: i32) {
            IS_DETAINED.store(true, SeqCst);
            while DETAIN.load(SeqCst) {
                // A system call, which a handler may make.
                thread::yield_now();
            }
        }
        DETAIN.store(true, SeqCst);
        IS_DETAINED.store(false, SeqCst);
        // SAFETY: the handler does nothing but use atomics, and the caller vouches for the thread.
        unsafe {
            libc::signal(libc::SIGUSR2, detain as *const () as libc::sighandler_t);
            libc::pthread_kill(thread, libc::SIGUSR2);
        }
        wait_until_detached("the thread is detained", || IS_DETAINED.load(SeqCst));
        Detained
    }
}

#[cfg(unix)]
impl Drop for Detained {
    fn drop(&mut self) {
        DETAIN.store(false, SeqCst);
    }
}

fn locks_and_unlocks(py: Python<'_>) -> PyResult<()> {
    let mut mutex = PyMutex::new(1);
    assert!(!mutex.is_locked());
    {
        let mut guard = mutex.lock(py);
        *guard += 1;
        assert!(mutex.is_locked());
        assert!(mutex.try_lock(py).is_none());
        assert_eq!(format!("{guard:?} {guard}"), "2 2");
        assert!(format!("{mutex:?}").contains("locked: true"));
    }
    assert!(!mutex.is_locked());
    assert_eq!(*mutex.try_lock(py).expect("it is free"), 2);
    assert_eq!(mutex.with(py, |value| *value), 2);
    assert_eq!(*mutex.lock_checked(py)?, 2);
    assert_eq!(*mutex.lock(py), 2);
    *mutex.get_mut() = 3;
    assert_eq!(mutex.into_inner(), 3);
    assert_eq!(PyMutex::<i32>::default().into_inner(), 0);
    assert_eq!(PyMutex::from(4).into_inner(), 4);
    Ok(())
}

/// Unsized data, and a trait object behind an `Arc`.
fn guards_unsized_data(py: Python<'_>) -> PyResult<()> {
    let slice: Box<PyMutex<[i32]>> = Box::new(PyMutex::new([1, 2, 3]));
    slice.lock(py)[1] = 5;
    assert_eq!(*slice.lock(py), [1, 5, 3]);
    let object: Arc<PyMutex<dyn std::fmt::Debug + Send>> = Arc::new(PyMutex::new(7));
    assert_eq!(format!("{:?}", PyMutex::lock_arc(&object, py)), "7");
    Ok(())
}

fn guards_map_to_parts(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new((1, vec![2, 3]));
    {
        let vector = PyMutexGuard::map(mutex.lock(py), |both| &mut both.1);
        assert!(mutex.is_locked());
        let mut last = MappedPyMutexGuard::map(vector, |vector| &mut vector[1]);
        *last += 1;
        assert_eq!(format!("{last:?} {last}"), "4 4");
    }
    assert!(!mutex.is_locked());

    let guard = PyMutexGuard::try_map(mutex.lock(py), |both| both.1.get_mut(9)).unwrap_err();
    assert_eq!(guard.0, 1);
    let vector = PyMutexGuard::try_map(guard, |both| Some(&mut both.1)).expect("there is one");
    let vector = MappedPyMutexGuard::try_map(vector, |vector| vector.get_mut(9)).unwrap_err();
    let first = MappedPyMutexGuard::try_map(vector, |vector| vector.first_mut());
    assert_eq!(*first.expect("there is one"), 2);
    assert!(!mutex.is_locked());

    // A closure that panics gives the mutex up.
    panic_of(|| PyMutexGuard::map(mutex.lock(py), |_| -> &mut i32 { panic!("as it should") }));
    assert!(!mutex.is_locked());
    assert!(mutex.is_poisoned());
    Ok(())
}

fn a_guard_can_own_a_reference(py: Python<'_>) -> PyResult<()> {
    let mutex = Arc::new(PyMutex::new(1));
    let mut guard: ArcPyMutexGuard<'_, i32> = PyMutex::lock_arc(&mutex, py);
    *guard += 1;
    assert!(Arc::ptr_eq(ArcPyMutexGuard::mutex(&guard), &mutex));
    assert_eq!(Arc::strong_count(&mutex), 2);
    drop(mutex);
    let mutex = ArcPyMutexGuard::unlock(guard);
    assert!(!mutex.is_locked());
    assert_eq!(Arc::strong_count(&mutex), 1);
    Ok(())
}

/// Lets in one thread at a time, on every build: the counter is not atomic, and the threads detach now and then.
fn excludes(py: Python<'_>) -> PyResult<()> {
    const THREADS: usize = 8;
    const TIMES: usize = 2000;
    let mutex = PyMutex::new(0_usize);
    let barrier = Barrier::new(THREADS);
    on_threads(py, THREADS, |py, number| {
        barrier.meet(py);
        for time in 0..TIMES {
            // Whoever had to wait is as likely as anybody to be where he should not be.
            let has_to_wait = mutex.is_locked();
            let mut guard = mutex.lock(py);
            let counter = &mut *guard;
            let seen = *counter;
            if has_to_wait || (time + number) % 100 == 0 {
                py.detach(|| {
                    thread::yield_now();
                    *counter = seen + 1;
                });
            } else {
                *counter = std::hint::black_box(seen) + 1;
            }
        }
    });
    assert!(!mutex.is_poisoned() && !mutex.is_locked());
    assert_eq!(mutex.into_inner(), THREADS * TIMES);
    Ok(())
}

/// One thread inside, detached; others arrive: a lock that waits attached stops the interpreter here.
fn waits_detached(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let (inside, arrived, leave) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    on_threads(py, 5, |py, number| match number {
        0 => {
            let mut guard = mutex.lock(py);
            let value = &mut *guard;
            inside.store(true, SeqCst);
            py.detach(|| {
                wait_until_detached("told to leave", || leave.load(SeqCst));
                *value += 1;
            });
        }
        1 => {
            wait_until(py, "the others wait", || arrived.load(SeqCst) == 3);
            for _ in 0..10 {
                collect(py);
            }
            leave.store(true, SeqCst);
        }
        _ => {
            wait_until(py, "it is locked", || inside.load(SeqCst));
            arrived.fetch_add(1, SeqCst);
            *mutex.lock(py) += 1;
        }
    });
    assert_eq!(mutex.into_inner(), 4);
    Ok(())
}

/// cpython#144513, cpython#133130: a mutex is fought for over longer than a millisecond, and its owner collects.
fn the_owner_may_collect_while_others_wait(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let barrier = Barrier::new(4);
    on_threads(py, 4, |py, _| {
        barrier.meet(py);
        for _ in 0..5 {
            let mut guard = mutex.lock(py);
            py.detach(|| thread::sleep(Duration::from_millis(2)));
            collect(py);
            *guard += 1;
        }
    });
    assert_eq!(mutex.into_inner(), 20);
    Ok(())
}

/// Who is told does not wait: not even for the moment that others are given before a sleep.
fn who_locks_twice_is_told_without_detaching(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    without_letting_go(py, |py| {
        let _guard = mutex.lock(py);
        for _ in 0..10 {
            assert!(mutex.lock_checked(py).is_err());
        }
    })
}

fn an_uncontended_lock_does_not_detach(py: Python<'_>) -> PyResult<()> {
    let mutex = Arc::new(PyMutex::new(0));
    let far = Instant::now() + Duration::from_secs(60);
    without_letting_go(py, |py| {
        for _ in 0..20_000 {
            *mutex.lock(py) += 1;
            *mutex
                .lock_with(py, Wait::new().interruptible())
                .expect("it is free") += 1;
            *mutex.lock_with(py, far).expect("it is free") += 1;
            *PyMutex::lock_arc(&mutex, py) += 1;
            let attached = mutex.try_with_attached(|_, value| *value += 1);
            attached.expect("it is free");
            mutex.with(py, |value| *value += 1);
            *mutex.try_lock(py).expect("it is free") += 1;
            *mutex.lock_checked(py).expect("it is free") += 1;
            *mutex
                .lock_with(py, Duration::from_secs(1))
                .expect("it is free") += 1;
        }
        // Poisoned it takes the slow path, which leaves the interpreter alone as well.
        panic_of(|| mutex.with(py, |_| panic!("as it should")));
        for _ in 0..20_000 {
            *mutex.lock(py) += 1;
            *PyMutex::lock_arc(&mutex, py) += 1;
        }
    })?;
    assert_eq!(*mutex.lock(py), 11 * 20_000);
    Ok(())
}

fn a_thread_that_locks_twice_is_told(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(1);
    let guard = mutex.lock(py);
    let message = panic_of(|| drop(mutex.lock(py)));
    for part in [
        "deadlock",
        "PyMutex at 0x",
        "already holds",
        "\"MainThread\" (0x",
        "mutex.rs:",
    ] {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    let error = PyErr::from(mutex.lock_checked(py).unwrap_err());
    assert!(error.is_instance_of::<PyRuntimeError>(py));
    assert!(error.is_instance_of::<pyo3_sync::exceptions::DeadlockError>(py));
    // A timeout that `Instant` cannot represent is none.
    let error = mutex.lock_with(py, Duration::MAX).unwrap_err();
    assert!(matches!(error, WaitError::Deadlock(_)));
    let error = mutex.try_with_attached(|_, _| ()).unwrap_err();
    assert!(matches!(error, TryAttachedError::Deadlock(_)));
    assert!(mutex.try_lock(py).is_none());
    // The lock that was held is held as before.
    assert!(mutex.is_locked());
    assert_eq!(*guard, 1);
    drop(guard);
    assert!(!mutex.is_locked());
    assert_eq!(*mutex.lock(py), 1);
    Ok(())
}

/// A thread that ends with the mutex locked does not make its successor, at the same addresses, look like the owner.
fn another_thread_is_not_mistaken_for_one_that_is_gone(py: Python<'_>) -> PyResult<()> {
    // How often the second thread gets the addresses of the first depends on the allocator.
    static MUTEXES: [PyMutex<()>; 16] = [const { PyMutex::new(()) }; 16];
    static MISTAKEN: AtomicUsize = AtomicUsize::new(0);
    for mutex in &MUTEXES {
        let start = || {
            let sleeper = Arc::new(Sleeper::default());
            let announced = Arc::clone(&sleeper);
            let thread = thread::spawn(move || {
                Python::attach(|py| {
                    announced.announce();
                    match mutex.lock_checked(py) {
                        Ok(guard) => std::mem::forget(guard),
                        Err(_) => drop(MISTAKEN.fetch_add(1, SeqCst)),
                    }
                });
            });
            (thread, sleeper)
        };
        let (first, _) = start();
        py.detach(|| first.join().expect("it does not panic"));
        // Sleeps for ever, as it should. Nobody waits for it.
        let (second, sleeper) = start();
        wait_until(py, "the second sleeps, or is told", || {
            sleeper.is_asleep() || second.is_finished()
        });
    }
    assert_eq!(MISTAKEN.load(SeqCst), 0, "taken for the owner");
    Ok(())
}

/// pyo3#916.
fn a_finaliser_that_comes_back_is_told(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<Vec<Py<PyAny>>> = PyMutex::new(Vec::new());
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    let mortal = || {
        Callback::new(|py| {
            if let Err(error) = MUTEX.lock_checked(py) {
                assert!(error.to_string().contains("already holds the PyMutex"));
                TOLD.fetch_add(1, SeqCst);
            }
            Ok(())
        })
        .on_death(py)
    };
    MUTEX.lock(py).push(mortal()?);
    MUTEX.lock(py).clear();
    assert_eq!(TOLD.load(SeqCst), 1);

    // Dropped by detached code, it dies when this thread attaches again.
    let dies = mortal()?;
    let mut guard = MUTEX.lock(py);
    let objects = &mut *guard;
    py.detach(|| {
        drop(dies);
        objects.clear();
    });
    drop(guard);
    assert_eq!(TOLD.load(SeqCst), 2);
    Ok(())
}

/// CPython drops what was on the stack with the exception pending that ended the call. What is found out for the message of a
/// deadlock leaves it alone.
fn a_report_leaves_the_pending_exception_alone(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<()> = PyMutex::new(());
    static TOLD: AtomicUsize = AtomicUsize::new(0);

    #[pyclass(frozen)]
    struct AsksWhenDropped;

    impl Drop for AsksWhenDropped {
        fn drop(&mut self) {
            let result = MUTEX.try_with_attached(|_, _| ());
            let told = matches!(result, Err(TryAttachedError::Deadlock(_)));
            TOLD.fetch_add(usize::from(told), SeqCst);
        }
    }

    let names = PyDict::new(py);
    names.set_item("things", vec![Py::new(py, AsksWhenDropped)?])?;
    let guard = MUTEX.lock(py);
    let error = py
        .run(c"print(things.pop(), 1 / 0)", Some(&names), None)
        .unwrap_err();
    drop(guard);
    assert_eq!(TOLD.load(SeqCst), 1);
    assert!(error.is_instance_of::<PyZeroDivisionError>(py), "{error}");
    assert!(error.value(py).getattr("__context__")?.is_none());
    Ok(())
}

/// A finaliser takes the lock while the thread that waits for it attaches again.
fn a_finaliser_takes_the_lock_that_its_thread_waits_for(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<usize> = PyMutex::new(0);
    static INSIDE: AtomicBool = AtomicBool::new(false);
    let dies = (0..100)
        .map(|_| {
            Callback::new(|py| {
                *MUTEX.lock(py) += 1;
                Ok(())
            })
            .on_death(py)
        })
        .collect::<PyResult<Vec<_>>>()?;
    on_two_threads(
        py,
        |py| {
            let mut guard = MUTEX.lock(py);
            let value = &mut *guard;
            INSIDE.store(true, SeqCst);
            py.detach(|| thread::sleep(Duration::from_millis(20)));
            *value += 1;
        },
        |py| {
            wait_until(py, "it is locked", || INSIDE.load(SeqCst));
            // The pool of objects to drop is emptied whenever a thread attaches.
            py.detach(|| drop(dies));
            *MUTEX.lock(py) += 1;
        },
    );
    wait_until(py, "all finalisers have run", || *MUTEX.lock(py) == 102);
    Ok(())
}

/// Runs Python threads, as users have them, through a function that locks.
fn python_threads_count_right(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<usize> = PyMutex::new(0);
    let hit = Callback::new(|py| {
        *MUTEX.lock_checked(py)? += 1;
        Ok(())
    });
    let names = PyDict::new(py);
    names.set_item("hit", hit)?;
    let threads = (0..4)
        .map(|_| PythonThread::start("for i in range(5000): hit()", &names))
        .collect::<PyResult<Vec<_>>>()?;
    for thread in threads {
        thread.join(py)?;
    }
    assert_eq!(*MUTEX.lock(py), 20_000);
    Ok(())
}

/// One thread locks in a loop and never lets the mutex rest; another one gets it all the same.
fn a_waiter_is_not_starved(py: Python<'_>) -> PyResult<()> {
    nobody_waits_for_long(py, |py| {
        py.detach(|| work_for(Duration::from_micros(50)));
    });
    Ok(())
}

/// The same, and the thread in the loop never detaches. It stays for longer: a waiter that comes again whenever it is woken might find
/// the mutex free by chance, many times a millisecond.
fn a_waiter_is_not_starved_by_an_attached_thread(py: Python<'_>) -> PyResult<()> {
    nobody_waits_for_long(py, |_| work_for(Duration::from_millis(1)));
    Ok(())
}

/// The machine may take a processor away for long at any moment, but not in each of three rounds.
fn nobody_waits_for_long(py: Python<'_>, inside: fn(Python<'_>)) {
    let rounds: Vec<_> = (0..3).map(|_| longest_of_forty_waits(py, inside)).collect();
    let least = rounds.iter().min().expect("three rounds");
    assert!(*least <= Duration::from_millis(50), "{rounds:?}");
}

fn longest_of_forty_waits(py: Python<'_>, inside: fn(Python<'_>)) -> Duration {
    let mutex = PyMutex::new(());
    let stop = AtomicBool::new(false);
    let (_, longest) = on_two_threads(
        py,
        |py| {
            while !stop.load(SeqCst) {
                let _guard = mutex.lock(py);
                inside(py);
            }
        },
        |py| {
            let waits = (0..40).map(|_| {
                let start = Instant::now();
                drop(mutex.lock(py));
                start.elapsed()
            });
            let longest = waits.max().expect("forty waits");
            stop.store(true, SeqCst);
            longest
        },
    );
    longest
}

/// The thread that the mutex is reserved for does not come: a signal keeps it. After a while others may have the mutex.
#[cfg(unix)]
fn a_reservation_that_is_not_taken_lapses(py: Python<'_>) -> PyResult<()> {
    // Whoever waits for the end of the reservation may have a limit or none.
    for limit in [None, Some(Duration::from_secs(8))] {
        let mutex = PyMutex::new(0);
        let (waiter, sleeper) = (OnceLock::new(), Sleeper::default());
        on_two_threads(
            py,
            |py| {
                let guard = mutex.lock(py);
                let _detained = py.detach(|| {
                    wait_until_detached("the other sleeps", || sleeper.is_asleep());
                    thread::sleep(Duration::from_millis(5)); // Long enough for a reservation.
                    // SAFETY: the thread lives until it has the mutex, and it does not get it before this one lets it go.
                    unsafe { Detained::new(*waiter.get().expect("it is set")) }
                });
                drop(guard);
                assert!(!mutex.is_locked());
                assert!(mutex.try_lock(py).is_none(), "it is reserved");
                let start = Instant::now();
                match limit {
                    None => drop(mutex.lock(py)),
                    Some(limit) => drop(mutex.lock_with(py, limit).expect("it lapses")),
                }
                assert!(
                    start.elapsed() >= Duration::from_millis(10),
                    "a reservation is respected"
                );
                assert!(
                    start.elapsed() < Duration::from_secs(4),
                    "it lapses long before that"
                );
            },
            |py| {
                wait_until(py, "it is locked", || mutex.is_locked());
                // SAFETY: no preconditions.
                let me = unsafe { libc::pthread_self() };
                waiter.set(me).expect("it is set once");
                sleeper.announce();
                *mutex.lock(py) += 1;
            },
        );
        assert_eq!(mutex.into_inner(), 1);
    }
    Ok(())
}

/// Invariant I3: a sleeper that was woken takes the mutex after it has attached, which it cannot as long as this thread does not detach.
fn a_mutex_is_not_handed_to_a_detached_thread(py: Python<'_>) -> PyResult<()> {
    // Long enough for a reservation in half of the rounds.
    for time in [0, 5].repeat(5) {
        let mutex = PyMutex::new(0);
        let sleeper = Sleeper::default();
        on_two_threads(
            py,
            |py| {
                let guard = mutex.lock(py);
                wait_until(py, "the other sleeps", || sleeper.is_asleep());
                py.detach(|| thread::sleep(Duration::from_millis(time)));
                drop(guard);
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(20) {
                    assert!(!mutex.is_locked(), "by a thread that is not attached");
                    thread::yield_now();
                }
            },
            |py| {
                wait_until(py, "it is locked", || mutex.is_locked());
                sleeper.announce();
                *mutex.lock(py) += 1;
            },
        );
        assert_eq!(mutex.into_inner(), 1);
    }
    Ok(())
}

/// The thread that the mutex is reserved for takes it as soon as it is awake.
fn a_reservation_is_taken_at_once(py: Python<'_>) -> PyResult<()> {
    let delays = (0..10).map(|_| {
        let mutex = PyMutex::new(Instant::now());
        let sleeper = Sleeper::default();
        let (_, delay) = on_two_threads(
            py,
            |py| {
                let mut guard = mutex.lock(py);
                let unlocked_at = &mut *guard;
                py.detach(|| {
                    wait_until_detached("the other sleeps", || sleeper.is_asleep());
                    thread::sleep(Duration::from_millis(5)); // Long enough for a reservation.
                    *unlocked_at = Instant::now();
                });
            },
            |py| {
                wait_until(py, "it is locked", || mutex.is_locked());
                sleeper.announce();
                mutex.lock(py).elapsed()
            },
        );
        delay
    });
    // The machine may be busy with something else in some rounds.
    let least = delays.min().expect("ten rounds");
    assert!(least < Duration::from_millis(8), "{least:?}");
    Ok(())
}

/// Those who came first are served first.
fn sleepers_keep_their_order(py: Python<'_>) -> PyResult<()> {
    // On a busy machine a reservation may expire in some rounds. A thread may also be asleep before
    // it reaches the queue.
    let rounds = (0..5).map(|_| {
        let mutex = PyMutex::new(Vec::new());
        let sleepers: [Sleeper; 4] = Default::default();
        on_threads(py, sleepers.len() + 1, |py, number| {
            let Some(sleeper) = sleepers.get(number) else {
                let mut guard = mutex.lock(py);
                let order = &mut *guard;
                py.detach(|| {
                    wait_until_detached("all sleep", || sleepers.iter().all(Sleeper::is_asleep));
                    thread::sleep(Duration::from_millis(5)); // Long enough for a reservation.
                    order.clear();
                });
                return;
            };
            wait_until(py, "it is locked", || mutex.is_locked());
            if let Some(before) = number.checked_sub(1) {
                wait_until(py, "the one before sleeps", || sleepers[before].is_asleep());
            }
            sleeper.announce();
            mutex.lock(py).push(number);
        });
        mutex.into_inner()
    });
    let in_order = rounds.filter(|order| *order == [0, 1, 2, 3]).count();
    assert!(in_order >= 3, "{in_order} of 5 rounds");
    Ok(())
}

/// A main thread wakes up now and then to look for signals, and goes back to its place, not behind those who came later.
fn a_sleeper_that_looks_for_signals_keeps_its_place(py: Python<'_>) -> PyResult<()> {
    // In some rounds the mutex may be unlocked at the very moment at which the thread is looking.
    let mut rounds = (0..5).map(|_| {
        let mutex = PyMutex::new(Vec::new());
        let (early, late) = (Sleeper::default(), Sleeper::default());
        thread::scope(|scope| {
            let threads = [
                scope.spawn(|| {
                    Python::attach(|py| {
                        let mut guard = mutex.lock(py);
                        let order = &mut *guard;
                        py.detach(|| {
                            wait_until_detached("the other sleeps", || late.is_asleep());
                            thread::sleep(Duration::from_millis(130)); // Two looks.
                            order.clear();
                        });
                    });
                }),
                scope.spawn(|| {
                    wait_until_detached("the other sleeps", || early.is_asleep());
                    Python::attach(|py| {
                        late.announce();
                        mutex.lock(py).push("late");
                    });
                }),
            ];
            wait_until(py, "it is locked", || mutex.is_locked());
            early.announce();
            mutex
                .lock_with(py, Wait::new().interruptible())
                .expect("no signal comes")
                .push("early");
            py.detach(|| threads.map(|thread| thread.join().expect("it does not panic")));
        });
        mutex.into_inner()
    });
    assert!(rounds.any(|order| order == ["early", "late"]));
    Ok(())
}

/// Whoever sleeps is not busy.
#[cfg(unix)]
fn a_sleeper_costs_nothing(py: Python<'_>) -> PyResult<()> {
    fn time_of_this_thread() -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the pointer is to a local.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        assert_eq!(result, 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    let mutex = PyMutex::new(());
    let sleeper = Sleeper::default();
    on_two_threads(
        py,
        |py| {
            let guard = mutex.lock(py);
            py.detach(|| {
                // Not until it sleeps, which it perhaps never does.
                wait_until_detached("the other asks", || sleeper.is_announced());
                thread::sleep(Duration::from_millis(300));
            });
            drop(guard);
        },
        |py| {
            wait_until(py, "it is locked", || mutex.is_locked());
            let start = time_of_this_thread();
            sleeper.announce();
            drop(mutex.lock(py));
            let busy = time_of_this_thread() - start;
            assert!(busy < Duration::from_millis(50), "{busy:?}");
        },
    );
    Ok(())
}

/// Nor does it wake up to look, but for the one time, after 300 ms, that it looks whether it is importing, and a writer that waits for
/// readers once more in the beginning.
#[cfg(target_os = "linux")]
fn nobody_polls(py: Python<'_>) -> PyResult<()> {
    /// How often the thread has gone to sleep.
    fn sleeps(thread: i32) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status"));
        let status = status.expect("the thread is there");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let number = line.and_then(|number| number.trim().parse().ok());
        number.expect("Linux counts them")
    }

    let (mutex, cell) = (PyMutex::new(()), PyOnceLock::new());
    let (read, written) = (PyRwLock::new(()), PyRwLock::new(()));
    let (noticed, changed) = (PyMutex::new(false), PyCondvar::new());
    let ready = AtomicBool::new(false);
    let threads: [(&str, OnceLock<i32>); 5] = [
        "mutex",
        "cell",
        "writer behind a reader",
        "reader behind a writer",
        "condition variable",
    ]
    .map(|name| (name, OnceLock::new()));
    let before_and_after = on_threads(py, threads.len() + 1, |py, number| {
        if let Some((_, thread)) = threads.get(number) {
            wait_until(py, "all is held", || ready.load(SeqCst));
            let sleeper = Sleeper::default();
            sleeper.announce();
            thread.set(sleeper.id()).expect("it is set once");
            match number {
                0 => drop(mutex.lock(py)),
                1 => drop(cell.get_or_init(py, || ())),
                2 => drop(read.write(py)),
                3 => drop(written.read(py)),
                _ => changed.wait_while(&mut noticed.lock(py), |noticed| !*noticed),
            }
            return Vec::new();
        }
        let _holding = (mutex.lock(py), read.read(py), written.write(py));
        let mut counts = Vec::new();
        cell.get_or_init(py, || {
            ready.store(true, SeqCst);
            py.detach(|| {
                wait_until_detached("all have asked", || {
                    threads.iter().all(|(_, thread)| thread.get().is_some())
                });
                // Let them fall asleep, and look for the last time.
                thread::sleep(Duration::from_millis(700));
                let count = || {
                    threads
                        .each_ref()
                        .map(|(_, id)| sleeps(*id.get().expect("it is set")))
                };
                let before = count();
                thread::sleep(Duration::from_secs(1));
                counts = vec![before, count()];
            });
        });
        *noticed.lock(py) = true;
        changed.notify_all();
        counts
    });
    let [before, after] = before_and_after.concat()[..] else {
        panic!("they were counted twice");
    };
    for ((name, _), (before, after)) in threads.iter().zip(before.iter().zip(after)) {
        let more = after - before;
        // One is for a machine so busy that a thread came late to its last look.
        assert!(more <= 1, "{name}: woken {more} times in a second");
    }
    Ok(())
}

/// Of two mutexes whose sleepers stand in the same queue, unlocking one wakes the sleeper of that one.
fn a_wake_up_is_for_one_mutex(py: Python<'_>) -> PyResult<()> {
    // One more than there are queues.
    const MUTEXES: usize = 65;
    let mutexes = [const { PyMutex::new(false) }; MUTEXES];
    let sleepers: [Sleeper; MUTEXES] = std::array::from_fn(|_| Sleeper::default());
    on_threads(py, MUTEXES + 1, |py, number| {
        let Some(mutex) = mutexes.get(number) else {
            let guards: Vec<_> = mutexes.iter().map(|mutex| mutex.lock(py)).collect();
            wait_until(py, "all sleep", || sleepers.iter().all(Sleeper::is_asleep));
            for (guard, mutex) in guards.into_iter().zip(&mutexes) {
                drop(guard);
                wait_until(py, "its sleeper has had it", || {
                    mutex.try_lock(py).is_some_and(|had| *had)
                });
            }
            return;
        };
        wait_until(py, "all are locked", || {
            mutexes.iter().all(PyMutex::is_locked)
        });
        sleepers[number].announce();
        *mutex.lock(py) = true;
    });
    Ok(())
}

/// `Thread::unpark` is anybody's. A sleeper that it wakes goes on sleeping, in one place.
fn a_stray_wake_up_is_ignored(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let (first, first_sleeps, second_sleeps) =
        (OnceLock::new(), Sleeper::default(), Sleeper::default());
    let barrier = Barrier::new(2);
    on_threads(py, 3, |py, number| match number {
        0 => {
            let guard = mutex.lock(py);
            py.detach(|| {
                wait_until_detached("the first sleeps", || first_sleeps.is_asleep());
                for _ in 0..50 {
                    first.get().map(thread::Thread::unpark);
                    thread::sleep(Duration::from_micros(100));
                }
            });
            drop(guard);
            wait_until(py, "the first has had it", || *mutex.lock(py) == 1);
            let guard = mutex.lock(py);
            barrier.meet(py);
            py.detach(|| wait_until_detached("the second sleeps", || second_sleeps.is_asleep()));
            // Wakes the second, unless something is left of the first.
            drop(guard);
        }
        1 => {
            wait_until(py, "it is locked", || mutex.is_locked());
            first.set(thread::current()).expect("it is set once");
            first_sleeps.announce();
            *mutex.lock(py) += 1;
        }
        _ => {
            barrier.meet(py);
            second_sleeps.announce();
            *mutex.lock(py) += 1;
        }
    });
    assert_eq!(mutex.into_inner(), 2);
    Ok(())
}

/// `Thread::unpark` during a wait of any kind makes the next `thread::park` of that thread return.
fn waiting_keeps_the_unpark_token(py: Python<'_>) -> PyResult<()> {
    /// Less than the limit of the test.
    const PARKED: Duration = Duration::from_secs(5);

    let (mutex, cell) = (PyMutex::new(()), PyOnceLock::new());
    let (read, written) = (PyRwLock::new(()), PyRwLock::new(()));
    let (noticed, changed) = (PyMutex::new(false), PyCondvar::new());
    let is_ready = AtomicBool::new(false);
    let threads: [(&str, OnceLock<thread::Thread>, Sleeper); 6] = [
        "mutex",
        "mutex with a timeout",
        "cell",
        "writer behind a reader",
        "reader behind a writer",
        "condition variable",
    ]
    .map(|name| (name, OnceLock::new(), Sleeper::default()));
    let kept = on_threads(py, threads.len() + 1, |py, number| {
        if let Some((_, handle, sleeper)) = threads.get(number) {
            wait_until(py, "all is locked", || is_ready.load(SeqCst));
            handle.set(thread::current()).expect("it is set once");
            sleeper.announce();
            match number {
                0 => drop(mutex.lock(py)),
                1 => drop(mutex.lock_with(py, PARKED)),
                2 => drop(cell.get_or_init(py, || ())),
                3 => drop(read.write(py)),
                4 => drop(written.read(py)),
                _ => changed.wait_while(&mut noticed.lock(py), |noticed| !*noticed),
            }
            let start = Instant::now();
            py.detach(|| thread::park_timeout(PARKED));
            return start.elapsed() < PARKED;
        }
        let _locked = (mutex.lock(py), read.read(py), written.write(py));
        cell.get_or_init(py, || {
            is_ready.store(true, SeqCst);
            py.detach(|| {
                wait_until_detached("all wait", || {
                    threads.iter().all(|(.., sleeper)| sleeper.is_asleep())
                });
                for (_, handle, _) in &threads {
                    handle.get().expect("it is set").unpark();
                }
            });
        });
        *noticed.lock(py) = true;
        changed.notify_all();
        true
    });
    for ((name, ..), kept) in threads.iter().zip(kept) {
        assert!(kept, "{name}: the wait consumed the token");
    }
    Ok(())
}

/// A mutex with a thread that has waited for long is reserved for it, although other mutexes with
/// the same queue have just been unlocked in the same way.
fn unrelated_mutexes_are_unlocked_fairly(py: Python<'_>) -> PyResult<()> {
    /// There are 64 queues, so most mutexes share theirs.
    const MUTEXES: usize = 129;

    let round = || {
        let mutexes = [const { PyMutex::new(false) }; MUTEXES];
        let sleepers: [Sleeper; MUTEXES] = std::array::from_fn(|_| Sleeper::default());
        let overtaken = on_threads(py, MUTEXES + 1, |py, number| {
            if let Some(mutex) = mutexes.get(number) {
                wait_until(py, "all are locked", || {
                    mutexes.iter().all(PyMutex::is_locked)
                });
                sleepers[number].announce();
                *mutex.lock(py) = true;
                return 0;
            }
            let mut locked: Vec<_> = mutexes.iter().map(|it| (it, it.lock(py))).collect();
            // Neighbors have different queues.
            let mut random = Random::from(17).stream(0);
            locked.sort_by_cached_key(|_| random.next());
            wait_until(py, "all wait", || sleepers.iter().all(Sleeper::is_asleep));
            py.detach(|| thread::sleep(Duration::from_millis(5))); // Long enough for a reservation.
            let mut overtaken = 0;
            for (mutex, guard) in locked {
                drop(guard);
                // `None` while it is reserved or the waiter has it.
                let overtakes = mutex.try_lock(py).is_some_and(|had| !*had);
                overtaken += usize::from(overtakes);
            }
            overtaken
        });
        overtaken.into_iter().sum::<usize>()
    };
    // In some rounds the machine may keep a thread from waiting for long enough.
    let rounds: Vec<_> = (0..3).map(|_| round()).collect();
    assert!(rounds.contains(&0), "threads overtaken: {rounds:?}");
    Ok(())
}

/// A thread marks the mutex, and before it is asleep the mutex is unlocked and locked again: it must not sleep without
/// the mark.
fn no_sleeper_is_forgotten(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(());
    let barrier = Barrier::new(2);
    on_threads(py, 2, |py, number| {
        for round in 0..4000 {
            if number == 0 {
                let guard = mutex.lock(py);
                barrier.meet(py);
                py.detach(|| work_for(Duration::from_micros(round % 80)));
                drop(guard);
                let guard = mutex.lock(py);
                work_for(Duration::from_micros(round % 7));
                drop(guard);
            } else {
                barrier.meet(py);
                drop(mutex.lock(py)); // Sleeps for ever if it is forgotten.
            }
            barrier.meet(py);
        }
    });
    Ok(())
}

/// Woken, and somebody else was faster: there is time left to try again.
fn a_wake_up_in_vain_does_not_end_a_wait_with_a_limit(py: Python<'_>) -> PyResult<()> {
    for _ in 0..50 {
        let mutex = PyMutex::new(());
        let done = AtomicBool::new(false);
        on_two_threads(
            py,
            |py| {
                let mut guard = mutex.lock(py);
                while !done.load(SeqCst) {
                    py.detach(|| thread::sleep(Duration::from_micros(200)));
                    // Let go for a moment. A sleeper that has waited for so short a time gets no reservation.
                    drop(guard);
                    guard = mutex.lock(py);
                }
            },
            |py| {
                wait_until(py, "it is locked", || mutex.is_locked());
                let locked = mutex.lock_with(py, Duration::from_secs(8)).is_ok();
                done.store(true, SeqCst);
                assert!(locked, "it gave up long before its time");
            },
        );
    }
    Ok(())
}

fn time_limits_hold(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(());
    let (locked, leave) = (AtomicBool::new(false), AtomicBool::new(false));
    on_two_threads(
        py,
        |py| {
            let mut guard = mutex.lock(py);
            let data = &mut *guard;
            locked.store(true, SeqCst);
            py.detach(|| {
                let _data = data;
                wait_until_detached("told to leave", || leave.load(SeqCst));
            });
        },
        |py| {
            wait_until(py, "it is locked", || locked.load(SeqCst));
            for limit in [0, 1, 30].map(Duration::from_millis) {
                let start = Instant::now();
                assert!(mutex.lock_with(py, limit).is_err());
                assert!(start.elapsed() >= limit);
                let until = Instant::now() + limit;
                assert!(mutex.lock_with(py, until).is_err());
                assert!(Instant::now() >= until);
            }
            // Nor late, on a machine that is idle for half of ten waits.
            let limit = Duration::from_millis(10);
            for until in [false, true] {
                let mut lateness = [(); 10].map(|()| {
                    let start = Instant::now();
                    let guard = if until {
                        mutex.lock_with(py, start + limit)
                    } else {
                        mutex.lock_with(py, limit)
                    };
                    assert!(guard.is_err());
                    start.elapsed() - limit
                });
                lateness.sort();
                assert!(lateness[5] <= Duration::from_millis(20), "{lateness:?}");
            }
            leave.store(true, SeqCst);
            assert!(mutex.lock_with(py, Duration::from_secs(8)).is_ok());
        },
    );
    // In vain for a thread that holds it already, but not for ever.
    let _guard = mutex.lock(py);
    assert!(mutex.lock_with(py, Duration::from_millis(5)).is_err());
    Ok(())
}

/// Waiters whose time is up leave the queue in the midst of wake-ups; none of these may be lost.
fn no_wake_up_is_lost_to_a_time_limit(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0_usize);
    let barrier = Barrier::new(8);
    let taken = on_threads(py, 8, |py, number| {
        barrier.meet(py);
        let mut taken = 0;
        for time in 0..400_u64 {
            let guard = if number < 6 {
                mutex
                    .lock_with(py, Duration::from_micros(time * 7 % 300))
                    .ok()
            } else {
                Some(mutex.lock(py)) // Sleeps for ever if a wake-up is lost.
            };
            if let Some(mut guard) = guard {
                let count = &mut *guard;
                py.detach(|| thread::sleep(Duration::from_micros(time % 50)));
                *count += 1;
                taken += 1;
            }
        }
        taken
    });
    assert_eq!(mutex.into_inner(), taken.iter().sum::<usize>());
    Ok(())
}

/// The time of a sleeper is up after it was woken and before it runs: the wake-up counts, and it is the only one.
#[cfg(unix)]
fn a_wake_up_at_the_last_moment_is_used(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    let until = Instant::now() + Duration::from_millis(500);
    let waiter = OnceLock::new();
    let (with_limit, without) = (Sleeper::default(), Sleeper::default());
    let all = on_threads(py, 3, |py, number| match number {
        0 => {
            let guard = mutex.lock(py);
            let detained = py.detach(|| {
                wait_until_detached("both sleep", || without.is_asleep());
                // SAFETY: the thread lives until it has the mutex or is late, and cannot go on before this one lets it.
                unsafe { Detained::new(*waiter.get().expect("it is set")) }
            });
            drop(guard);
            py.detach(|| {
                wait_until_detached("its time is up", || Instant::now() > until);
                drop(detained);
            });
            true
        }
        1 => {
            wait_until(py, "it is locked", || mutex.is_locked());
            // SAFETY: no preconditions.
            let me = unsafe { libc::pthread_self() };
            waiter.set(me).expect("it is set once");
            with_limit.announce();
            mutex.lock_with(py, until).is_ok()
        }
        _ => {
            wait_until(py, "the one with a limit sleeps", || with_limit.is_asleep());
            without.announce();
            drop(mutex.lock(py)); // Sleeps for ever if the wake-up is lost.
            true
        }
    });
    assert_eq!(all, [true; 3], "it was woken in time");
    Ok(())
}

fn poison_tells_of_a_panic(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(1);
    assert!(!mutex.is_poisoned());
    panic_of(|| {
        let mut guard = mutex.lock(py);
        *guard = 2;
        panic!("as it should");
    });
    assert!(mutex.is_poisoned());
    assert!(!mutex.is_locked());
    assert_eq!(*mutex.lock(py), 2);
    panic_of(|| {
        let _guard = mutex.lock(py);
        panic!("once more");
    });
    assert_eq!(*mutex.try_lock(py).expect("it is free"), 2);
    assert!(mutex.is_poisoned());
    let guard = mutex.lock(py);
    mutex.clear_poison(py);
    assert!(!mutex.is_poisoned() && mutex.is_locked());
    drop(guard);
    assert!(!mutex.is_poisoned());

    // A lock taken by a destructor while the thread is panicking already tells of no new panic.
    panic_of(|| {
        let _lock = OnDrop(|| *mutex.lock(py));
        panic!("as it should");
    });
    assert!(!mutex.is_poisoned());

    // Poison outlives contention, and the guards of other kinds poison as well.
    panic_of(|| {
        let _guard = PyMutexGuard::map(mutex.lock(py), |value| value);
        panic!("as it should");
    });
    on_threads(py, 4, |py, _| {
        for _ in 0..100 {
            let mut guard = mutex.lock(py);
            let value = &mut *guard;
            py.detach(|| *value += 1);
        }
    });
    assert!(mutex.is_poisoned());
    let mutex = Arc::new(PyMutex::new(1));
    panic_of(|| {
        let _guard = PyMutex::lock_arc(&mutex, py);
        panic!("as it should");
    });
    assert!(mutex.is_poisoned());
    Ok(())
}

fn sleepers_learn_of_poison(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(());
    let sleeper = Sleeper::default();
    on_two_threads(
        py,
        |py| {
            panic_of(|| {
                let _guard = mutex.lock(py);
                wait_until(py, "the other sleeps", || sleeper.is_asleep());
                panic!("as it should");
            });
        },
        |py| {
            wait_until(py, "it is locked", || mutex.is_locked());
            sleeper.announce();
            let _guard = mutex.lock(py);
            assert!(mutex.is_poisoned());
        },
    );
    assert!(mutex.is_poisoned());
    Ok(())
}

fn can_be_unlocked_for_a_while(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(1);
    let mut guard = mutex.lock(py);
    let seen = PyMutexGuard::unlocked(&mut guard, || {
        assert!(!mutex.is_locked());
        on_threads(py, 1, |py, _| *mutex.lock(py) = 2);
        7
    });
    assert_eq!((seen, *guard), (7, 2));
    assert!(mutex.is_locked());

    // A panic locks it again, and passes on.
    let message = panic_of(|| PyMutexGuard::unlocked(&mut guard, || panic!("as it should")));
    assert_eq!(message, "as it should");
    assert_eq!(*guard, 2);
    assert!(mutex.is_locked());
    drop(guard);
    assert!(!mutex.is_poisoned());
    // Not even if the guard is dropped by that panic: it began when the mutex was not locked.
    panic_of(|| {
        let mut guard = mutex.lock(py);
        PyMutexGuard::unlocked(&mut guard, || panic!("as it should"))
    });
    assert!(!mutex.is_locked());
    assert!(!mutex.is_poisoned());
    Ok(())
}

/// Locking again would be a deadlock: the guard holds nothing from then on.
fn a_guard_that_cannot_lock_again_holds_nothing(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(1);
    let mut guard = mutex.lock(py);
    let mut other = None;
    let message = panic_of(|| PyMutexGuard::unlocked(&mut guard, || other = Some(mutex.lock(py))));
    assert!(message.contains("already holds the PyMutex"), "{message}");
    assert!(panic_of(|| *guard).contains("holds nothing"));
    assert_eq!(format!("{guard:?}"), "<not held>");
    assert!(panic_of(|| *guard = 3).contains("holds nothing"));
    assert!(panic_of(|| PyMutexGuard::unlocked(&mut guard, || ())).contains("holds nothing"));
    drop(guard);
    assert!(mutex.is_locked(), "the other guard still holds it");
    assert_eq!(other.as_deref(), Some(&1));
    drop(other);
    assert!(!mutex.is_locked());

    // What the closure returned is dropped: were it the guard of another mutex, that would stay locked for ever.
    let another = PyMutex::new(2);
    let mut guard = mutex.lock(py);
    let mut other = None;
    let message = panic_of(|| {
        drop(PyMutexGuard::unlocked(&mut guard, || {
            other = Some(mutex.lock(py));
            another.lock(py)
        }));
    });
    assert!(message.contains("already holds the PyMutex"), "{message}");
    assert!(!another.is_locked());
    drop((guard, other));

    // The same while a panic is on its way, which goes on.
    let mut guard = mutex.lock(py);
    let mut other = None;
    let message = panic_of(|| {
        PyMutexGuard::unlocked(&mut guard, || {
            other = Some(mutex.lock(py));
            panic!("as it should");
        })
    });
    assert_eq!(message, "as it should");
    assert!(panic_of(|| PyMutexGuard::map(guard, |value| value)).contains("holds nothing"));
    assert!(mutex.is_locked());
    Ok(())
}

fn detached_threads_lock_by_attaching(py: Python<'_>) -> PyResult<()> {
    let mutex = PyMutex::new(0);
    py.detach(|| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        mutex
                            .try_with_attached(|py, value| {
                                assert!(py.None().bind(py).is_none());
                                *value += 1;
                            })
                            .expect("there is an interpreter");
                    }
                });
            }
        });
    });
    // With a token at hand it nests.
    mutex
        .try_with_attached(|_, value| *value += 1)
        .expect("this thread is attached");
    assert_eq!(mutex.into_inner(), 401);
    Ok(())
}

/// As the listing of `__traverse__` in the documentation has it, in a place where no thread may attach.
fn traversal_cannot_attach(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    static TRAVERSED: AtomicBool = AtomicBool::new(false);

    #[pyclass(frozen)]
    struct Attaches;

    #[pymethods]
    impl Attaches {
        fn __traverse__(&self, _visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
            let result = MUTEX.try_with_attached(|_, _| ());
            assert!(matches!(result, Err(TryAttachedError::NotAttached)));
            TRAVERSED.store(true, SeqCst);
            Ok(())
        }
    }

    let _object = Py::new(py, Attaches)?;
    collect(py);
    assert!(TRAVERSED.load(SeqCst));
    Ok(())
}

/// A daemon thread holds a guard across a detachment for ever, and a finaliser on the main thread asks for the lock.
fn at_exit_a_lock_that_nobody_will_release_is_reported(py: Python<'_>) -> PyResult<()> {
    let finished = finish(
        py,
        child(py, "mutex::exits_while_a_thread_holds_the_lock")?,
        CHILD_LIMIT,
    )?;
    finished.expect_success();
    assert!(
        finished
            .output
            .contains("and the interpreter is shutting down"),
        "{}",
        finished.output
    );
    Ok(())
}

fn exits_while_a_thread_holds_the_lock(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<()> = PyMutex::new(());
    let hold = Callback::new(|py| {
        let mut guard = MUTEX.lock(py);
        let data = &mut *guard;
        py.detach(|| {
            let _data = data;
            loop {
                thread::park();
            }
        })
    });
    let ask = Callback::new(|py| {
        MUTEX.lock_checked(py).map(drop)?;
        Ok(())
    });
    let names = PyDict::new(py);
    names.set_item("hold", hold)?;
    PythonThread::start("hold()", &names)?;
    wait_until(py, "it is locked", || MUTEX.is_locked());
    ask.at_finalisation(py)
}

/// The same with threads that wait: they never come back, and the process ends.
fn exits_while_threads_wait(py: Python<'_>) -> PyResult<()> {
    let finished = finish(
        py,
        child(py, "mutex::exits_while_many_threads_wait")?,
        CHILD_LIMIT,
    )?;
    finished.expect_success();
    assert!(
        finished.output.contains("the call returned"),
        "{}",
        finished.output
    );
    Ok(())
}

fn exits_while_many_threads_wait(py: Python<'_>) -> PyResult<()> {
    static MUTEX: PyMutex<()> = PyMutex::new(());
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    let wait = Callback::new(|py| {
        WAITING.fetch_add(1, SeqCst);
        MUTEX.lock_checked(py).map(drop)?;
        Ok(())
    });
    let names = PyDict::new(py);
    names.set_item("wait", wait)?;
    let guard = MUTEX.lock(py);
    for _ in 0..8 {
        PythonThread::start("while True: wait()", &names)?;
    }
    wait_until(py, "they wait", || WAITING.load(SeqCst) == 8);
    py.detach(|| thread::sleep(Duration::from_millis(5)));
    drop(guard);
    // Whatever the others were doing when they were stopped: none has the mutex while it waits to attach.
    Callback::new(|py| {
        drop(MUTEX.lock_checked(py)?);
        Ok(())
    })
    .at_finalisation(py)
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(locks_and_unlocks),
        test!(guards_unsized_data),
        test!(guards_map_to_parts),
        test!(a_guard_can_own_a_reference),
        test!(excludes),
        test!(waits_detached),
        test!(the_owner_may_collect_while_others_wait),
        test!(an_uncontended_lock_does_not_detach),
        test!(who_locks_twice_is_told_without_detaching),
        test!(a_thread_that_locks_twice_is_told),
        test!(another_thread_is_not_mistaken_for_one_that_is_gone),
        test!(a_finaliser_that_comes_back_is_told),
        test!(a_report_leaves_the_pending_exception_alone),
        test!(a_finaliser_takes_the_lock_that_its_thread_waits_for),
        test!(python_threads_count_right),
        test!(a_waiter_is_not_starved),
        test!(a_waiter_is_not_starved_by_an_attached_thread)
            .only_free_threaded("with a GIL the other thread cannot run meanwhile"),
        #[cfg(unix)]
        test!(a_reservation_that_is_not_taken_lapses),
        test!(a_mutex_is_not_handed_to_a_detached_thread)
            .only_with_gil("without one both threads are attached"),
        test!(a_reservation_is_taken_at_once),
        test!(sleepers_keep_their_order),
        test!(a_sleeper_that_looks_for_signals_keeps_its_place),
        #[cfg(unix)]
        test!(a_sleeper_costs_nothing),
        #[cfg(target_os = "linux")]
        test!(nobody_polls),
        test!(a_wake_up_is_for_one_mutex),
        test!(a_stray_wake_up_is_ignored),
        test!(waiting_keeps_the_unpark_token),
        test!(unrelated_mutexes_are_unlocked_fairly)
            .only_with_gil("without one a waiter can lock and unlock before this thread looks"),
        test!(no_sleeper_is_forgotten),
        test!(a_wake_up_in_vain_does_not_end_a_wait_with_a_limit),
        test!(time_limits_hold),
        test!(no_wake_up_is_lost_to_a_time_limit),
        #[cfg(unix)]
        test!(a_wake_up_at_the_last_moment_is_used),
        test!(poison_tells_of_a_panic),
        test!(sleepers_learn_of_poison),
        test!(can_be_unlocked_for_a_while),
        test!(a_guard_that_cannot_lock_again_holds_nothing),
        test!(detached_threads_lock_by_attaching),
        test!(traversal_cannot_attach),
        test!(at_exit_a_lock_that_nobody_will_release_is_reported),
        test!(exits_while_threads_wait),
    ],
    scenarios: &[
        scenario!(exits_while_a_thread_holds_the_lock),
        scenario!(exits_while_many_threads_wait),
    ],
};
