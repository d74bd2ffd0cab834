//! Ctrl-C while a thread waits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyKeyboardInterrupt, PyTimeoutError};
use pyo3::prelude::*;
use pyo3_sync::{
    PyBarrier, PyCondvar, PyLazy, PyMutex, PyOnce, PyOnceLock, PyRwLock, PyTryLazy, Wait, WaitError,
};

use crate::callback::Callback;
use crate::harness::{child, finish, on_threads, slowdown, wait_until_detached, without_signals};
use crate::panics::OnDrop;
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(8);

fn run_child(py: Python<'_>, scenario: &str) -> PyResult<()> {
    finish(py, child(py, scenario)?, CHILD_LIMIT)?.expect_success();
    Ok(())
}

fn ctrl_c_ends_the_wait_for_a_mutex(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::is_interrupted_in_a_mutex")
}

fn ctrl_c_ends_the_wait_for_a_cell(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::is_interrupted_in_a_cell")
}

fn ctrl_c_ends_the_wait_for_a_read_write_lock(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::is_interrupted_in_a_read_write_lock")
}

fn ctrl_c_ends_the_wait_for_other_threads(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::is_interrupted_while_nobody_comes")
}

fn handlers_that_do_not_raise_do_not_end_the_wait(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::handles_signals_in_a_mutex")
}

/// Up to Python 3.12 `threading` takes the thread that imports it first for the main one.
fn ctrl_c_ends_the_wait_if_another_thread_imported_threading(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::is_interrupted_with_foreign_threading")
}

/// A queue that waits with a timeout must not ignore Ctrl-C until it expires.
fn ctrl_c_ends_waits_before_their_timeout(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::is_interrupted_before_the_timeout")
}

fn only_the_main_thread_is_interrupted(py: Python<'_>) -> PyResult<()> {
    run_child(py, "signals::is_not_interrupted_in_another_thread")
}

fn expect_ctrl_c(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let handler = signal.getattr("default_int_handler")?;
    let set = signal.call_method1("signal", (signal.getattr("SIGINT")?, handler));
    set.map(drop)
}

/// Sends this process what Ctrl-C sends, from a thread that is not attached.
fn press_ctrl_c() {
    let pid = std::process::id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(kill.expect("there is a `kill`").success());
}

/// When Ctrl-C is pressed, in milliseconds after the wait began: at other times between two looks for signals each.
const PRESSED_AFTER: [u64; 5] = [60, 85, 110, 135, 160];

const LIMIT: Duration = Duration::from_millis(100);

/// Runs `wait` on this thread, with Ctrl-C pressed a little later each time, and expects each to end in time: all of one series, or
/// of another one, should the machine have been busy.
fn expect_interruptions<R, E: Into<PyErr>>(py: Python<'_>, wait: impl Fn() -> Result<R, E>) {
    let series = || PRESSED_AFTER.map(|delay| interrupted(py, delay, &wait));
    let in_time = |latencies: &[Duration]| {
        latencies
            .iter()
            .all(|latency| *latency <= LIMIT * slowdown())
    };
    let first = series();
    if !in_time(&first) {
        let second = series();
        assert!(in_time(&second), "too late: {first:?}, {second:?}");
    }
}

/// Gives the time from Ctrl-C to the end of `wait`.
fn interrupted<R, E: Into<PyErr>>(
    py: Python<'_>,
    delay: u64,
    wait: impl Fn() -> Result<R, E>,
) -> Duration {
    let pressed = thread::spawn(move || {
        thread::sleep(Duration::from_millis(delay));
        let time = Instant::now();
        press_ctrl_c();
        time
    });
    let error: PyErr = wait().err().expect("the wait was ended").into();
    let ended = Instant::now();
    assert!(error.is_instance_of::<PyKeyboardInterrupt>(py), "{error}");
    let pressed = py.detach(|| pressed.join().expect("it has pressed"));
    ended.saturating_duration_since(pressed)
}

fn is_interrupted_in_a_mutex(py: Python<'_>) -> PyResult<()> {
    expect_ctrl_c(py)?;
    let mutex = PyMutex::new(0);
    let (locked, leave) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            Python::attach(|py| {
                let mut guard = mutex.lock(py);
                let value = &mut *guard;
                locked.store(true, SeqCst);
                py.detach(|| {
                    wait_until_detached("told to leave", || leave.load(SeqCst));
                    *value += 1;
                });
            });
        });
        py.detach(|| wait_until_detached("it is locked", || locked.load(SeqCst)));
        expect_interruptions(py, || {
            mutex.lock_with(py, Wait::new().interruptible()).map(drop)
        });
        leave.store(true, SeqCst);
        // Nothing is left of the waits that were ended: the mutex is handed to nobody else.
        *mutex
            .lock_with(py, Wait::new().interruptible())
            .expect("it becomes free") += 1;
    });
    assert!(format!("{mutex:?}").contains("locked: false"));
    assert_eq!(mutex.into_inner(), 2);
    Ok(())
}

fn is_interrupted_in_a_cell(py: Python<'_>) -> PyResult<()> {
    expect_ctrl_c(py)?;
    let cell = PyOnceLock::new();
    let (inside, leave) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            Python::attach(|py| {
                cell.get_or_init(py, || {
                    inside.store(true, SeqCst);
                    py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst)));
                    1
                });
            });
        });
        py.detach(|| wait_until_detached("the initialiser runs", || inside.load(SeqCst)));
        expect_interruptions(py, || cell.get_or_try_init_py(py, || Ok(2)));
        expect_interruptions(py, || cell.wait_with(py, Wait::new().interruptible()));
        leave.store(true, SeqCst);
        assert_eq!(
            cell.wait_with(py, Wait::new().interruptible())
                .expect("it is filled"),
            &1
        );
    });
    Ok(())
}

fn is_interrupted_in_a_read_write_lock(py: Python<'_>) -> PyResult<()> {
    expect_ctrl_c(py)?;
    let lock = PyRwLock::new(0);
    let (step, leave) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            Python::attach(|py| {
                let reading = lock.read(py);
                step.store(1, SeqCst);
                py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst) == 1));
                drop(reading);
                let mut writing = lock.write(py);
                *writing += 1;
                step.store(2, SeqCst);
                py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst) == 2));
            });
        });
        py.detach(|| wait_until_detached("it is read", || step.load(SeqCst) == 1));
        expect_interruptions(py, || {
            lock.write_with(py, Wait::new().interruptible()).map(drop)
        });
        // No trace of the writer that gave up: readers need not wait.
        assert!(!lock.is_write_locked());
        drop(lock.try_read(py).expect("it is only read"));
        leave.store(1, SeqCst);
        py.detach(|| wait_until_detached("it is written", || step.load(SeqCst) == 2));
        expect_interruptions(py, || {
            lock.read_with(py, Wait::new().interruptible()).map(drop)
        });
        expect_interruptions(py, || {
            lock.write_with(py, Wait::new().interruptible()).map(drop)
        });
        leave.store(2, SeqCst);
        assert_eq!(
            *lock
                .read_with(py, Wait::new().interruptible())
                .expect("it becomes free"),
            1
        );
    });
    assert!(!lock.is_locked());
    Ok(())
}

fn is_interrupted_while_nobody_comes(py: Python<'_>) -> PyResult<()> {
    expect_ctrl_c(py)?;
    let (mutex, changed, barrier) = (PyMutex::new(0), PyCondvar::new(), PyBarrier::new(2));
    expect_interruptions(py, || {
        changed.wait_with(&mut mutex.lock(py), Wait::new().interruptible())
    });
    assert!(!mutex.is_locked());
    expect_interruptions(py, || {
        barrier.wait_with(py, Wait::new().interruptible()).map(drop)
    });
    // This thread does not count as having come, however often it gave up.
    let leaders: Vec<bool> = on_threads(py, 2, |py, _| barrier.wait(py).is_leader());
    assert!(leaders[0] != leaders[1]);
    Ok(())
}

/// A call of one of the methods that take a [`Wait`].
type Waits<'w> = &'w dyn Fn(Wait) -> Result<(), WaitError>;

/// Passes `check` the name and a call of every method that takes a [`Wait`].
///
/// Another thread holds the locks and runs the initializers meanwhile.
fn with_each_wait(py: Python<'_>, mut check: impl FnMut(&str, Waits<'_>)) {
    let (held, leave) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mutex, written, read) = (PyMutex::new(0), PyRwLock::new(0), PyRwLock::new(0));
    let (unlocked, changed, barrier) = (PyMutex::new(0), PyCondvar::new(), PyBarrier::new(2));
    let (cell, once, once_force) = (PyOnceLock::new(), PyOnce::new(), PyOnce::new());
    let try_lazy = PyTryLazy::new(|py: Python<'_>| {
        held.store(true, SeqCst);
        py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst)));
        Ok(0)
    });
    let lazy = PyLazy::new(|py: Python<'_>| *try_lazy.get(py).expect("it is not interrupted"));
    let waits: [(&str, Waits<'_>); 12] = [
        ("PyMutex::lock_with", &|wait| {
            mutex.lock_with(py, wait).map(drop)
        }),
        ("PyRwLock::read_with", &|wait| {
            written.read_with(py, wait).map(drop)
        }),
        ("PyRwLock::write_with, written", &|wait| {
            written.write_with(py, wait).map(drop)
        }),
        ("PyRwLock::write_with, read", &|wait| {
            read.write_with(py, wait).map(drop)
        }),
        ("PyCondvar::wait_with", &|wait| {
            changed.wait_with(&mut unlocked.lock(py), wait)
        }),
        ("PyCondvar::wait_while_with", &|wait| {
            changed.wait_while_with(&mut unlocked.lock(py), |_| true, wait)
        }),
        ("PyBarrier::wait_with", &|wait| {
            barrier.wait_with(py, wait).map(drop)
        }),
        ("PyOnceLock::wait_with", &|wait| {
            cell.wait_with(py, wait).map(drop)
        }),
        ("PyOnce::call_once_with", &|wait| {
            once.call_once_with(py, wait, || unreachable!())
        }),
        ("PyOnce::call_once_force_with", &|wait| {
            once_force.call_once_force_with(py, wait, |_| unreachable!())
        }),
        ("PyLazy::get_with", &|wait| {
            lazy.get_with(py, wait).map(drop)
        }),
        (
            "PyTryLazy::get_with",
            &|wait| match try_lazy.get_with(py, wait) {
                Ok(_) => Ok(()),
                Err(error) if error.is_instance_of::<PyTimeoutError>(py) => {
                    Err(WaitError::TimedOut)
                }
                Err(error) => Err(WaitError::Interrupted(error)),
            },
        ),
    ];
    thread::scope(|scope| {
        scope.spawn(|| {
            Python::attach(|py| {
                let _guards = (mutex.lock(py), written.write(py), read.read(py));
                cell.get_or_init(py, || {
                    once.call_once(py, || {
                        once_force.call_once(py, || assert_eq!(lazy.get(py), &0))
                    })
                });
            });
        });
        let _leave = OnDrop(|| leave.store(true, SeqCst));
        py.detach(|| wait_until_detached("all is held", || held.load(SeqCst)));
        for (name, wait) in waits {
            check(name, wait);
        }
        assert!(!unlocked.is_locked() && !unlocked.is_poisoned());
        leave.store(true, SeqCst);
        // The waits that ended have left no trace.
        for (name, wait) in waits {
            let succeeds = !name.starts_with("PyCondvar") && !name.starts_with("PyBarrier");
            if succeeds {
                wait(Wait::new().interruptible()).expect(name);
            }
        }
    });
    let leaders = on_threads(py, 2, |py, _| barrier.wait(py).is_leader());
    assert_ne!(
        leaders[0], leaders[1],
        "no thread is counted after its wait has ended"
    );
}

fn is_interrupted_before_the_timeout(py: Python<'_>) -> PyResult<()> {
    expect_ctrl_c(py)?;
    let wait = Wait::new().timeout(Duration::from_secs(60)).interruptible();
    with_each_wait(py, |name, method| {
        let in_time = || interrupted(py, PRESSED_AFTER[0], || method(wait)) <= LIMIT * slowdown();
        assert!(in_time() || in_time(), "{name} ends too late");
    });
    Ok(())
}

/// Without a signal, an interruptible wait on the main thread times out like any other wait.
fn waits_time_out_unless_interrupted(py: Python<'_>) -> PyResult<()> {
    const TIMEOUT: Duration = Duration::from_millis(10);
    with_each_wait(py, |name, method| {
        for is_interruptible in [false, true] {
            for is_deadline in [false, true] {
                let start = Instant::now();
                let wait = if is_deadline {
                    Wait::new().deadline(start + TIMEOUT)
                } else {
                    Wait::new().timeout(TIMEOUT)
                };
                let wait = if is_interruptible {
                    wait.interruptible()
                } else {
                    wait
                };
                let waited = method(wait);
                assert!(
                    matches!(waited, Err(WaitError::TimedOut)),
                    "{name}: {waited:?}"
                );
                assert!(start.elapsed() >= TIMEOUT, "{name} timed out early");
            }
        }
    });
    Ok(())
}

fn is_interrupted_with_foreign_threading(py: Python<'_>) -> PyResult<()> {
    expect_ctrl_c(py)?;
    let modules = py.import("sys")?.getattr("modules")?;
    let threading = modules.call_method1("pop", ("threading",))?;
    on_threads(py, 1, |py, _| py.import("threading").map(drop)).remove(0)?;
    let barrier = PyBarrier::new(2);
    expect_interruptions(py, || {
        barrier.wait_with(py, Wait::new().interruptible()).map(drop)
    });
    // For the end of the interpreter, which calls the module.
    modules.set_item("threading", threading)
}

fn handles_signals_in_a_mutex(py: Python<'_>) -> PyResult<()> {
    static HANDLED: AtomicUsize = AtomicUsize::new(0);
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    let handle = Callback::new(|py| {
        // A handler may use other locks, and finds the one that it interrupts as anybody does.
        PyMutex::new(0)
            .lock_with(py, Wait::new().interruptible())
            .map(drop)?;
        assert!(MUTEX.try_lock(py).is_none());
        HANDLED.fetch_add(1, SeqCst);
        Ok(())
    });
    let code = c"
import signal
signal.signal(signal.SIGINT, lambda number, frame: handle())
";
    let names = pyo3::types::PyDict::new(py);
    names.set_item("handle", handle)?;
    py.run(code, Some(&names), None)?;
    let locked = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            Python::attach(|py| {
                let mut guard = MUTEX.lock(py);
                let value = &mut *guard;
                locked.store(true, SeqCst);
                py.detach(|| {
                    for number in 1..=3 {
                        press_ctrl_c();
                        wait_until_detached("it was handled", || HANDLED.load(SeqCst) == number);
                    }
                    *value += 1;
                });
            });
        });
        py.detach(|| wait_until_detached("it is locked", || locked.load(SeqCst)));
        assert_eq!(
            *MUTEX
                .lock_with(py, Wait::new().interruptible())
                .expect("it becomes free"),
            1
        );
    });
    assert_eq!(HANDLED.load(SeqCst), 3);
    Ok(())
}

fn is_not_interrupted_in_another_thread(py: Python<'_>) -> PyResult<()> {
    expect_ctrl_c(py)?;
    let mutex = PyMutex::new(0);
    let waiting = AtomicBool::new(false);
    thread::scope(|scope| {
        let guard = mutex.lock(py);
        let other = scope.spawn(|| {
            Python::attach(|py| {
                waiting.store(true, SeqCst);
                mutex.lock_with(py, Wait::new().interruptible()).map(drop)
            })
        });
        py.detach(|| {
            wait_until_detached("it waits", || waiting.load(SeqCst));
            press_ctrl_c();
            thread::sleep(Duration::from_millis(100));
        });
        let error = py
            .check_signals()
            .expect_err("the signal is for this thread");
        assert!(error.is_instance_of::<PyKeyboardInterrupt>(py));
        drop(guard);
        py.detach(|| other.join().expect("it ends"))
    })?;
    Ok(())
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(ctrl_c_ends_the_wait_for_a_mutex).unless(without_signals),
        test!(ctrl_c_ends_the_wait_for_a_cell).unless(without_signals),
        test!(ctrl_c_ends_the_wait_for_a_read_write_lock).unless(without_signals),
        test!(ctrl_c_ends_the_wait_for_other_threads).unless(without_signals),
        test!(handlers_that_do_not_raise_do_not_end_the_wait).unless(without_signals),
        test!(ctrl_c_ends_the_wait_if_another_thread_imported_threading).unless(without_signals),
        test!(ctrl_c_ends_waits_before_their_timeout).unless(without_signals),
        test!(waits_time_out_unless_interrupted),
        test!(only_the_main_thread_is_interrupted).unless(without_signals),
    ],
    scenarios: &[
        scenario!(is_interrupted_in_a_mutex),
        scenario!(is_interrupted_in_a_cell),
        scenario!(is_interrupted_in_a_read_write_lock),
        scenario!(is_interrupted_while_nobody_comes),
        scenario!(is_interrupted_before_the_timeout),
        scenario!(is_interrupted_with_foreign_threading),
        scenario!(handles_signals_in_a_mutex),
        scenario!(is_not_interrupted_in_another_thread),
    ],
};
