//! Processes that end while threads wait on our locks, hold them, or fill cells.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::{
    PyBarrier, PyCondvar, PyMutex, PyOnce, PyOnceLock, PyProtected, PyRwLock, TryAttachedError,
};

use crate::callback::Callback;
use crate::harness::{PythonThread, child, finish, on_threads, wait_until};
use crate::random::Random;
use crate::registry::Module;
use crate::{scenario, test};

const CHILDREN: usize = 500;
const AT_ONCE: usize = 4;
const CHILD_LIMIT: Duration = Duration::from_secs(15);

/// Each child is caught at another moment.
fn five_hundred_processes_end(py: Python<'_>) -> PyResult<()> {
    let started = AtomicUsize::new(0);
    on_threads(py, AT_ONCE, |py, _| {
        while started.fetch_add(1, SeqCst) < CHILDREN {
            let command = child(py, "shutdown::ends_amid_everything")?;
            let finished = finish(py, command, CHILD_LIMIT)?;
            finished.expect_success();
            assert!(
                finished.output.ends_with("the call returned"),
                "{}",
                finished.output
            );
        }
        Ok(())
    })
    .into_iter()
    .collect()
}

static MUTEX: PyMutex<Vec<Py<PyAny>>> = PyMutex::new(Vec::new());
static HELD: PyMutex<()> = PyMutex::new(());
static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static RWLOCK: PyRwLock<Vec<Py<PyAny>>> = PyRwLock::new(Vec::new());
static READ: PyRwLock<()> = PyRwLock::new(());
static NOTICED: PyMutex<()> = PyMutex::new(());
static CHANGED: PyCondvar = PyCondvar::new();
/// For more threads than there will ever be.
static BARRIER: PyBarrier = PyBarrier::new(100);
static ONCE: PyOnce = PyOnce::new();
static PROTECTED: PyProtected<Vec<Py<PyAny>>> = PyProtected::new(Vec::new());
static BORROWED: PyProtected<()> = PyProtected::new(());
static BUSY: AtomicUsize = AtomicUsize::new(0);
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

/// Python and Rust threads use locks and cells, hold them across detachments, and are asleep in them, when the interpreter ends;
/// then finalisers on the main thread ask for the same.
fn ends_amid_everything(py: Python<'_>) -> PyResult<()> {
    let random = Random::announced();
    let use_all = Callback::new(|py| {
        BUSY.fetch_add(1, SeqCst);
        MUTEX.lock_checked(py)?.push(py.None());
        let objects = {
            let mut guard = MUTEX.lock_checked(py)?;
            let objects = &mut *guard;
            py.detach(|| {
                thread::yield_now();
                std::mem::take(objects)
            })
        };
        drop(objects);
        RWLOCK.write_checked(py)?.push(py.None());
        {
            let reading = RWLOCK.read_checked(py)?;
            let objects = &*reading;
            py.detach(|| {
                thread::yield_now();
                let _ = objects.len();
            });
        }
        PyOnceLock::new().get_or_try_init_py(py, || {
            py.detach(thread::yield_now);
            Ok(())
        })?;
        Ok(())
    });
    let hold = Callback::new(|py| {
        let mut guard = HELD.lock_checked(py)?;
        let data = &mut *guard;
        BUSY.fetch_add(1, SeqCst);
        py.detach(|| {
            let _data = data;
            loop {
                thread::park();
            }
        })
    });
    let hold_reading = Callback::new(|py| {
        let reading = READ.read_checked(py)?;
        let data = &*reading;
        BUSY.fetch_add(1, SeqCst);
        py.detach(|| {
            let _data = data;
            loop {
                thread::park();
            }
        })
    });
    let wait_for_readers = Callback::new(|py| {
        BUSY.fetch_add(1, SeqCst);
        READ.write_checked(py).map(drop)?;
        Ok(())
    });
    let wait_for_held = Callback::new(|py| {
        BUSY.fetch_add(1, SeqCst);
        HELD.lock_checked(py).map(drop)?;
        Ok(())
    });
    let fill = Callback::new(|py| {
        CELL.get_or_try_init_py(py, || {
            BUSY.fetch_add(1, SeqCst);
            py.detach(|| {
                loop {
                    thread::park();
                }
            })
        })
        .map(drop)
    });
    let hear = Callback::new(|py| {
        let mut guard = NOTICED.lock_checked(py)?;
        BUSY.fetch_add(1, SeqCst);
        loop {
            CHANGED.wait_checked(&mut guard)?;
        }
    });
    let meet = Callback::new(|py| {
        BUSY.fetch_add(1, SeqCst);
        BARRIER.wait_checked(py)?;
        unreachable!("so many do not come")
    });
    let run_once = Callback::new(|py| {
        BUSY.fetch_add(1, SeqCst);
        ONCE.call_once_checked(py, || {
            py.detach(|| {
                loop {
                    thread::park();
                }
            })
        })?;
        unreachable!("the closure does not end")
    });
    let protect = Callback::new(|py| {
        BUSY.fetch_add(1, SeqCst);
        // The other one may have it, and be on its way through a detachment.
        let _ = PROTECTED.try_with_mut(py, |objects| {
            objects.push(py.None());
            py.detach(thread::yield_now);
        });
        drop(PROTECTED.try_with_mut(py, std::mem::take));
        Ok(())
    });
    let borrow = Callback::new(|py| {
        BORROWED.with_mut(py, |()| {
            BUSY.fetch_add(1, SeqCst);
            py.detach(|| {
                loop {
                    thread::park();
                }
            })
        })
    });
    let names = PyDict::new(py);
    names.set_item("hear", hear)?;
    names.set_item("meet", meet)?;
    names.set_item("run_once", run_once)?;
    names.set_item("protect", protect)?;
    names.set_item("borrow", borrow)?;
    names.set_item("use_all", use_all)?;
    names.set_item("hold", hold)?;
    names.set_item("hold_reading", hold_reading)?;
    names.set_item("wait_for_held", wait_for_held)?;
    names.set_item("wait_for_readers", wait_for_readers)?;
    names.set_item("fill", fill)?;
    PythonThread::start("hold()", &names)?;
    PythonThread::start("hold_reading()", &names)?;
    PythonThread::start("borrow()", &names)?;
    wait_until(py, "they are held", || HELD.is_locked() && READ.is_locked());
    wait_until(py, "it is borrowed", || {
        BORROWED.try_with_mut(py, |()| ()).is_err()
    });
    for code in [
        "hear()",
        "hear()",
        "meet()",
        "meet()",
        "run_once()",
        "run_once()",
        "while True: protect()",
        "while True: protect()",
        "while True: use_all()",
        "while True: use_all()",
        "wait_for_held()",
        "wait_for_readers()",
        "fill()",
        "fill()",
    ] {
        PythonThread::start(code, &names)?;
    }
    // Threads of Rust, which do not end by themselves either. Each attaches once: one that attaches anew while the interpreter
    // is being deleted crashes CPython 3.14t, whatever locks it uses.
    for _ in 0..2 {
        thread::spawn(|| {
            Python::attach(|py| {
                ATTACHED.fetch_add(1, SeqCst);
                loop {
                    MUTEX.with(py, |objects| objects.push(py.None()));
                    py.detach(thread::yield_now);
                }
            })
        });
    }
    wait_until(py, "both are attached", || ATTACHED.load(SeqCst) == 2);
    wait_until(py, "all are busy", || BUSY.load(SeqCst) > 24);
    let pause = random.stream(0).below(3000) as u64;
    py.detach(|| thread::sleep(Duration::from_micros(pause)));

    Callback::new(|py| {
        assert!(HELD.lock_checked(py).is_err());
        assert!(HELD.try_lock(py).is_none());
        assert!(READ.write_checked(py).is_err());
        assert!(READ.try_write(py).is_none());
        assert!(CELL.get_or_try_init_py(py, || Ok(py.None())).is_err());
        assert!(CELL.get(py).is_none());
        // This one may be held, reserved or free; whichever it is, it is found out.
        if let Ok(mut objects) = MUTEX.lock_checked(py) {
            objects.clear();
        }
        drop(RWLOCK.read_checked(py));
        if let Ok(mut objects) = RWLOCK.write_checked(py) {
            objects.clear();
        }
        CHANGED.notify_one();
        CHANGED.notify_all();
        assert!(
            CHANGED
                .wait_checked(&mut NOTICED.lock_checked(py)?)
                .is_err()
        );
        assert!(BARRIER.wait_checked(py).is_err());
        assert!(ONCE.call_once_checked(py, || ()).is_err() && !ONCE.is_completed());
        assert!(BORROWED.try_with_mut(py, |()| ()).is_err());
        drop(PROTECTED.try_with_mut(py, std::mem::take));
        // An object that is dropped after finalisation, by nobody.
        CELL_AT_EXIT.get_or_init(py, || py.None());
        MUTEX_AT_EXIT.lock(py).push(py.None());
        Ok(())
    })
    .at_finalisation(py)
}

static CELL_AT_EXIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static MUTEX_AT_EXIT: PyMutex<Vec<Py<PyAny>>> = PyMutex::new(Vec::new());

/// Destructors of the main thread and of another one run when the interpreter is gone, and ask for a lock in vain.
fn drops_after_finalisation_are_harmless(py: Python<'_>) -> PyResult<()> {
    let finished = finish(
        py,
        child(py, "shutdown::drops_after_finalisation")?,
        CHILD_LIMIT,
    )?;
    finished.expect_success();
    for thread in ["the main thread", "another thread"] {
        let line = format!("{thread}: not attached");
        assert!(finished.output.contains(&line), "{}", finished.output);
    }
    Ok(())
}

/// Asks for its lock when it is dropped, says what came of that, and gives up references.
struct AsksWhenDropped {
    thread: &'static str,
    mutex: PyMutex<Vec<Py<PyAny>>>,
    _cell: PyOnceLock<Py<PyAny>>,
}

impl AsksWhenDropped {
    fn new(py: Python<'_>, thread: &'static str) -> Self {
        let (mutex, cell) = (PyMutex::new(vec![py.None()]), PyOnceLock::new());
        cell.get_or_init(py, || py.None());
        mutex.lock(py).push(py.None());
        assert!(cell.is_initialized() && !mutex.is_locked());
        AsksWhenDropped {
            thread,
            mutex,
            _cell: cell,
        }
    }
}

impl Drop for AsksWhenDropped {
    fn drop(&mut self) {
        let answer = match self.mutex.try_with_attached(|_, _| ()) {
            Err(TryAttachedError::NotAttached) => "not attached",
            Err(_) => "told of a deadlock",
            Ok(()) => "attached",
        };
        let line = format!("{}: {answer}\n", self.thread);
        // What `eprintln!` needs of the thread may be gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

fn drops_after_finalisation(py: Python<'_>) -> PyResult<()> {
    static OTHER_IS_DONE: AtomicBool = AtomicBool::new(false);
    /// Lets the other thread come to its end first: the process ends with the main thread.
    struct AtThreadExit(#[expect(dead_code, reason = "dropped")] AsksWhenDropped);
    impl Drop for AtThreadExit {
        fn drop(&mut self) {
            let start = Instant::now();
            while !OTHER_IS_DONE.load(SeqCst) && start.elapsed() < CHILD_LIMIT / 2 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    thread_local! {
        // Destroyed when the main thread ends, after the interpreter.
        static LAST: std::cell::RefCell<Option<AtThreadExit>> = const { std::cell::RefCell::new(None) };
    }
    let asks = AsksWhenDropped::new(py, "the main thread");
    LAST.with(|last| *last.borrow_mut() = Some(AtThreadExit(asks)));

    let is_ready = std::sync::Arc::new(AtomicBool::new(false));
    let ready = std::sync::Arc::clone(&is_ready);
    thread::spawn(move || {
        let asks = Python::attach(|py| AsksWhenDropped::new(py, "another thread"));
        ready.store(true, SeqCst);
        // SAFETY: no preconditions.
        while unsafe { pyo3::ffi::Py_IsInitialized() } != 0 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(asks);
        OTHER_IS_DONE.store(true, SeqCst);
    });
    wait_until(py, "the other thread is ready", || is_ready.load(SeqCst));
    Ok(())
}

/// With PyO3 before 0.29, a thread that comes back from a `detach` of the user's own aborts the process at exit, on Python before 3.14.
fn an_older_pyo3_aborts(py: Python<'_>) -> Option<String> {
    (cfg!(pyo3_before_0_29) && py.version_info() < (3, 14)).then(|| {
        "PyO3 before 0.29 aborts at exit on Python before 3.14 where a thread comes back from `detach`".to_owned()
    })
}

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(five_hundred_processes_end)
            .limit(300)
            .unless(an_older_pyo3_aborts),
        test!(drops_after_finalisation_are_harmless),
    ],
    scenarios: &[
        scenario!(ends_amid_everything),
        scenario!(drops_after_finalisation),
    ],
};
