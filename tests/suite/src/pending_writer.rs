//! A writer that waits until the readers have left owns the lock already, but has changed nothing.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::{PyMutex, PyRwLock, Wait};

use crate::callback::Callback;
use crate::fork::{Forked, allow_forks, without_fork};
use crate::harness::{
    PythonThread, child, finish, slowdown, wait_until, wait_until_detached, without_signals,
};
use crate::panics::OnDrop;
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(8);

/// Runs `body` while another thread waits to write to `lock`, which somebody reads.
fn while_another_waits_to_write<R>(
    py: Python<'_>,
    lock: &PyRwLock<i32>,
    body: impl FnOnce() -> R,
) -> R {
    thread::scope(|scope| {
        let writer = scope.spawn(|| Python::attach(|py| *lock.write(py) += 1));
        wait_until(py, "it waits", || lock.is_write_locked());
        let result = body();
        py.detach(|| writer.join().expect("it writes"));
        result
    })
}

/// Runs `body` while another thread reads `lock`, until `body` is over.
fn while_another_reads<R>(
    py: Python<'_>,
    lock: &PyRwLock<i32>,
    body: impl FnOnce(&AtomicBool) -> R,
) -> R {
    let leave = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            Python::attach(|py| {
                let _reading = lock.read(py);
                py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst)));
            });
        });
        wait_until(py, "it is read", || lock.is_locked());
        let result = {
            let _leave = OnDrop(|| leave.store(true, SeqCst));
            body(&leave)
        };
        py.detach(|| reader.join().expect("it leaves"));
        result
    })
}

/// What a child does with the lock first.
type Use = fn(Python<'_>, &PyRwLock<i32>);

/// The forking thread reads; in the child nobody else has ever had the lock.
fn a_fork_leaves_no_writer_behind_that_only_waited(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let uses: [Use; 6] = [
        |py, lock| assert_eq!(*lock.read_checked(py).expect("nobody writes"), 0),
        |py, lock| assert_eq!(*lock.write_checked(py).expect("nobody writes"), 0),
        |py, lock| assert!(lock.try_read(py).is_some()),
        |py, lock| assert!(lock.try_write(py).is_some()),
        |py, lock| {
            let limit = Duration::from_secs(1);
            assert!(lock.write_with(py, limit).is_ok());
        },
        |py, lock| {
            // SAFETY: a number, of which nobody has a reference.
            unsafe {
                assert!(lock.recover_abandoned(py).is_none());
                assert_eq!(lock.reset_abandoned(py, 5), Err(5));
            }
        },
    ];
    for first in uses {
        let lock = PyRwLock::new(0);
        let reading = lock.read(py);
        while_another_waits_to_write(py, &lock, || {
            Forked::running(py, |py| {
                assert!(!lock.is_write_locked());
                drop(lock.read(py));
                let message = lock.write_checked(py).map(drop).unwrap_err().to_string();
                assert!(
                    message.contains("for reading, and requested it for writing"),
                    "{message}"
                );
                drop(lock.read(py));
            })?
            .expect_success(py)?;
            let forked = Forked::running(py, |py| {
                // SAFETY: the guard is not used any more, and the parent drops its own.
                drop(unsafe { std::ptr::read(&reading) });
                first(py, &lock);
                assert!(!lock.is_locked() && !lock.is_poisoned());
                for _ in 0..2 {
                    *lock.write(py) += 1;
                    drop(lock.read(py));
                    assert!(lock.try_write(py).is_some());
                }
            })?;
            forked.expect_success(py)?;
            drop(reading);
            Ok::<_, PyErr>(())
        })?;
        assert_eq!(lock.into_inner(), 1);
    }
    Ok(())
}

/// Readers who are gone are another matter: they keep writers out, until the lock is taken over from them.
fn a_fork_leaves_readers_behind_that_a_writer_waited_for(py: Python<'_>) -> PyResult<()> {
    allow_forks(py)?;
    let lock = PyRwLock::new(0);
    while_another_reads(py, &lock, |leave| {
        while_another_waits_to_write(py, &lock, || {
            let forked = Forked::running(py, |py| {
                assert_eq!(*lock.read_checked(py).expect("nobody writes"), 0);
                let error = lock.write_checked(py).map(drop).unwrap_err().to_string();
                assert!(error.contains("held for reading by a thread"), "{error}");
                // SAFETY: a number, of which this thread has no reference.
                let recovered = unsafe { lock.recover_abandoned(py) };
                assert!(recovered.is_some());
                drop(recovered);
                lock.clear_poison(py);
                *lock.write(py) += 1;
            });
            leave.store(true, SeqCst);
            forked?.expect_success(py)
        })
    })
}

/// The fork comes while this thread waits itself, behind that writer: in a signal handler.
fn a_fork_in_the_middle_of_a_wait_ends_the_wait_for_a_writer(py: Python<'_>) -> PyResult<()> {
    static CHILD: AtomicI32 = AtomicI32::new(-1);
    allow_forks(py)?;
    for reads in [true, false] {
        let lock = PyRwLock::new(0);
        let fork = Callback::new(|py| {
            let child: i32 = py.import("os")?.call_method0("fork")?.extract()?;
            if child == 0 {
                py.import("signal")?
                    .call_method1("alarm", (6 * slowdown(),))?;
                let code = c"import signal; signal.signal(signal.SIGALRM, signal.SIG_DFL)";
                py.run(code, None, None)?;
            }
            CHILD.store(child, SeqCst);
            Ok(())
        });
        let names = PyDict::new(py);
        names.set_item("fork", fork)?;
        let code = c"
import signal
signal.signal(signal.SIGALRM, lambda number, frame: fork())
signal.setitimer(signal.ITIMER_REAL, 0.15)
";
        while_another_reads(py, &lock, |leave| {
            while_another_waits_to_write(py, &lock, || {
                thread::scope(|scope| {
                    scope.spawn(|| {
                        wait_until_detached("the child has ended", || CHILD.load(SeqCst) > 0);
                        thread::sleep(Duration::from_millis(100));
                        leave.store(true, SeqCst);
                    });
                    py.run(code, Some(&names), None)?;
                    let waited = if reads {
                        lock.read_with(py, Wait::new().interruptible()).map(drop)
                    } else {
                        lock.write_with(py, Wait::new().interruptible()).map(drop)
                    };
                    if CHILD.load(SeqCst) == 0 {
                        // Those who read are gone, which keeps writers out.
                        let as_expected = match waited {
                            Ok(()) => reads,
                            Err(ref error) => {
                                !reads && error.to_string().contains("for reading by")
                            }
                        };
                        py.import("os")?
                            .call_method1("_exit", (i32::from(!as_expected),))?;
                    }
                    waited.map_err(PyErr::from)
                })
            })
        })?;
        let child = CHILD.swap(-1, SeqCst);
        let ended: (i32, i32) = py
            .import("os")?
            .call_method1("waitpid", (child, 0))?
            .extract()?;
        assert_eq!(ended, (child, 0), "how the child ended");
    }
    Ok(())
}

static AT_EXIT: PyRwLock<i32> = PyRwLock::new(0);

fn at_exit_a_writer_that_only_waited_keeps_nobody_out(py: Python<'_>) -> PyResult<()> {
    let command = child(py, "pending_writer::waits_at_exit")?;
    let finished = finish(py, command, CHILD_LIMIT)?;
    finished.expect_success();
    assert!(
        finished.output.ends_with("the call returned"),
        "{}",
        finished.output
    );
    Ok(())
}

fn waits_at_exit(py: Python<'_>) -> PyResult<()> {
    let names = PyDict::new(py);
    let hold = Callback::new(|py| {
        let _reading = AT_EXIT.read(py);
        py.detach(|| {
            loop {
                thread::park();
            }
        })
    });
    names.set_item("hold", hold)?;
    names.set_item(
        "write",
        Callback::new(|py| AT_EXIT.with_mut(py, |_| Ok(()))),
    )?;
    PythonThread::start("hold()", &names)?;
    wait_until(py, "it is read", || AT_EXIT.is_locked());
    PythonThread::start("write()", &names)?;
    wait_until(py, "a writer waits", || AT_EXIT.is_write_locked());
    Callback::new(|py| {
        drop(AT_EXIT.try_read(py).expect("nobody writes"));
        drop(AT_EXIT.read_checked(py)?);
        // The reader does not come back either.
        let error = AT_EXIT.write_checked(py).map(drop).unwrap_err();
        assert!(error.to_string().contains("held for reading by"), "{error}");
        assert!(AT_EXIT.try_write(py).is_none() && !AT_EXIT.is_write_locked());
        Ok(())
    })
    .at_finalisation(py)
}

/// A signal handler asks for the lock that it interrupts the wait for; another one for a mutex whose owner waits to read the lock.
fn a_handler_is_told_what_its_thread_waits_for(py: Python<'_>) -> PyResult<()> {
    static LOCK: PyRwLock<i32> = PyRwLock::new(0);
    static MUTEX: PyMutex<i32> = PyMutex::new(0);
    static OWNER_WAITS: AtomicBool = AtomicBool::new(false);
    let ask = |pause: f64, ask: Callback| {
        let names = PyDict::new(py);
        names.set_item("ask", ask)?;
        names.set_item("pause", pause)?;
        let code = c"
import signal
signal.signal(signal.SIGALRM, lambda number, frame: ask())
signal.setitimer(signal.ITIMER_REAL, pause)
";
        py.run(code, Some(&names), None)?;
        let error = LOCK
            .write_with(py, Wait::new().interruptible())
            .map(drop)
            .unwrap_err();
        Ok::<_, PyErr>(error.to_string())
    };
    while_another_reads(py, &LOCK, |leave| {
        let uses: [fn(Python<'_>) -> PyResult<()>; 2] = [
            |py| Ok(LOCK.read_checked(py).map(drop)?),
            |py| Ok(LOCK.write_checked(py).map(drop)?),
        ];
        for first in uses {
            let message = ask(0.1, Callback::new(first))?;
            assert!(
                message.contains("is already waiting to write to the PyRwLock"),
                "{message}"
            );
            assert!(message.contains("signal handlers"), "{message}");
        }
        let message = thread::scope(|scope| {
            let owner = scope.spawn(|| {
                Python::attach(|py| {
                    let _held = MUTEX.lock(py);
                    wait_until(py, "a writer waits", || LOCK.is_write_locked());
                    OWNER_WAITS.store(true, SeqCst);
                    drop(LOCK.read_checked(py));
                })
            });
            wait_until(py, "it is held", || MUTEX.is_locked());
            let lock = |py: Python<'_>| {
                wait_until(py, "its owner waits", || OWNER_WAITS.load(SeqCst));
                py.detach(|| thread::sleep(Duration::from_millis(50)));
                MUTEX.lock_checked(py).map(drop)?;
                Ok(())
            };
            let message = ask(0.1, Callback::new(lock));
            py.detach(|| owner.join().expect("it lets go"));
            message
        })?;
        assert!(
            message.contains("2 threads") && message.contains("which waits for readers to drain"),
            "{message}"
        );
        leave.store(true, SeqCst);
        Ok(())
    })
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_fork_leaves_no_writer_behind_that_only_waited)
            .limit(30)
            .unless(without_fork),
        test!(a_fork_leaves_readers_behind_that_a_writer_waited_for).unless(without_fork),
        test!(a_fork_in_the_middle_of_a_wait_ends_the_wait_for_a_writer)
            .limit(20)
            .unless(without_fork),
        test!(at_exit_a_writer_that_only_waited_keeps_nobody_out),
        test!(a_handler_is_told_what_its_thread_waits_for).unless(without_signals),
    ],
    scenarios: &[scenario!(waits_at_exit)],
};
