//! What was wrong once, or missing: each test failed before the repair that it came with.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::ext::{CondvarExt, MutexExt};
use pyo3_sync::{
    ArcPyRwLockReadGuard, ArcPyRwLockWriteGuard, PyBarrier, PyCondvar, PyLazy, PyMutex,
    PyMutexGuard, PyOnce, PyOnceLock, PyRwLock, PyRwLockReadGuard, PyRwLockWriteGuard, Wait,
};

use crate::callback::Callback;
use crate::fork::without_fork;
use crate::harness::{
    PythonThread, Sleeper, child, finish, is_free_threaded, on_threads, on_two_threads, slowdown,
    wait_until, wait_until_detached,
};
use crate::panics::{OnDrop, panic_of};
use crate::registry::Module;
use crate::{scenario, test};

const CHILD_LIMIT: Duration = Duration::from_secs(8);

/// A thread has as many places for what it reads as are usual, and further ones when it needs them. A lock that stands in one
/// of those is read again by this thread when all the usual places are empty.
fn a_lock_that_was_read_last_of_many_can_be_read_again(py: Python<'_>) -> PyResult<()> {
    const LAST: usize = 19;
    let locks: [PyRwLock<usize>; LAST + 1] = std::array::from_fn(PyRwLock::new);
    let (is_read, writer) = (AtomicBool::new(false), Sleeper::default());
    let (read_again, written) = on_two_threads(
        py,
        |py| {
            let mut guards: Vec<_> = locks.iter().map(|lock| lock.read(py)).collect();
            let last = guards.pop();
            drop(guards);
            is_read.store(true, SeqCst);
            wait_until(py, "a writer waits for this reader", || {
                locks[LAST].is_write_locked() && writer.is_asleep()
            });
            let tried = locks[LAST].try_read(py).is_some();
            let checked = locks[LAST].read_checked(py).map(drop);
            drop(last);
            (tried, checked)
        },
        |py| {
            wait_until(py, "it is read", || is_read.load(SeqCst));
            writer.announce();
            locks[LAST].write_checked(py).map(drop)
        },
    );
    assert!(read_again.0);
    read_again.1?;
    written?;
    Ok(())
}

/// Forks as Python does, and runs `body` in the child, which an alarm clock ends if it hangs.
fn in_forked_child(py: Python<'_>, body: impl FnOnce(Python<'_>)) -> PyResult<()> {
    in_forked_child_after(py, || (), body)
}

/// [`in_forked_child`], with something to do right before the fork.
fn in_forked_child_after(
    py: Python<'_>,
    last: impl FnOnce(),
    body: impl FnOnce(Python<'_>),
) -> PyResult<()> {
    py.import("warnings")?
        .call_method1("simplefilter", ("ignore",))?;
    let os = py.import("os")?;
    let fork = os.getattr("fork")?;
    last();
    let child: i32 = fork.call0()?.extract()?;
    if child == 0 {
        let signal = py.import("signal").expect("it is there");
        signal
            .call_method1("alarm", (6 * slowdown(),))
            .expect("the alarm is set");
        let body = std::panic::AssertUnwindSafe(|| body(py));
        let result = std::panic::catch_unwind(body);
        os.call_method1("_exit", (i32::from(result.is_err()),))?;
    }
    let (_, status): (i32, i32) = os.call_method1("waitpid", (child, 0))?.extract()?;
    assert_eq!(status, 0, "how the child ended, as a wait status");
    Ok(())
}

/// Threads that had come to a barrier when the process was forked do not come in the child.
fn a_barrier_counts_only_threads_that_exist(py: Python<'_>) -> PyResult<()> {
    let barrier = PyBarrier::new(3);
    let waiters = [Sleeper::default(), Sleeper::default()];
    let results = on_threads(py, 3, |py, number| {
        if let Some(waiter) = waiters.get(number) {
            waiter.announce();
            barrier.wait(py);
            return Ok(());
        }
        wait_until(py, "two wait", || waiters.iter().all(Sleeper::is_asleep));
        let result = in_forked_child(py, |py| {
            for _ in 0..3 {
                let leaders = on_threads(py, 3, |py, _| barrier.wait(py).is_leader());
                assert_eq!(leaders.iter().filter(|leads| **leads).count(), 1);
            }
        });
        barrier.wait(py);
        result
    });
    results.into_iter().collect()
}

/// A lock that is taken over from readers who are gone is poisoned, and they are forgotten, only if it is taken over.
fn a_takeover_that_fails_changes_nothing(py: Python<'_>) -> PyResult<()> {
    const LOCKS: usize = 3000;
    let is_free_threaded = is_free_threaded(py);
    let let_others_run = |py: Python<'_>| {
        if !is_free_threaded {
            py.detach(thread::yield_now);
        }
    };
    let locks: Vec<PyRwLock<usize>> = (0..LOCKS).map(PyRwLock::new).collect();
    let (are_read, leave) = (AtomicBool::new(false), AtomicBool::new(false));
    let results = on_threads(py, 2, |py, number| {
        if number == 0 {
            let _guards: Vec<_> = locks.iter().map(|lock| lock.read(py)).collect();
            are_read.store(true, SeqCst);
            py.detach(|| wait_until_detached("told to leave", || leave.load(SeqCst)));
            return Ok(());
        }
        wait_until(py, "they are read", || are_read.load(SeqCst));
        let _leave = OnDrop(|| leave.store(true, SeqCst));
        in_forked_child(py, |py| {
            let taken_over = AtomicUsize::new(0);
            on_threads(py, 2, |py, number| {
                for (index, lock) in locks.iter().enumerate() {
                    if number == 0 {
                        while taken_over.load(SeqCst) <= index {
                            drop(lock.read(py));
                            let_others_run(py);
                        }
                        continue;
                    }
                    // SAFETY: a number is whole, and none was lent to this thread.
                    while unsafe { lock.recover_abandoned(py) }.is_none() {
                        assert!(!lock.is_poisoned());
                        assert!(lock.try_write(py).is_none(), "readers were forgotten");
                        let_others_run(py);
                    }
                    assert!(lock.is_poisoned());
                    taken_over.store(index + 1, SeqCst);
                }
            });
        })
    });
    results.into_iter().collect()
}

/// A lock that was reserved for readers when the process was forked is free in the child.
fn a_reservation_for_readers_ends_with_a_fork(py: Python<'_>) -> PyResult<()> {
    // So that no other thread gets the GIL between the unlocking and the fork.
    py.import("sys")?
        .call_method1("setswitchinterval", (1000,))?;
    let lock = PyRwLock::new(0);
    let (is_locked, readers) = (
        AtomicBool::new(false),
        [Sleeper::default(), Sleeper::default()],
    );
    let results = on_threads(py, 3, |py, number| {
        if let Some(reader) = readers.get(number) {
            wait_until(py, "it is locked", || is_locked.load(SeqCst));
            reader.announce();
            drop(lock.read(py));
            return Ok(());
        }
        let guard = lock.write(py);
        is_locked.store(true, SeqCst);
        wait_until(py, "they sleep", || readers.iter().all(Sleeper::is_asleep));
        py.detach(|| thread::sleep(Duration::from_millis(5))); // Until it is to be reserved for them.
        let unlock = || {
            drop(guard);
            assert!(lock.try_write(py).is_none(), "it is reserved");
        };
        in_forked_child_after(py, unlock, |py| assert!(lock.try_write(py).is_some()))
    });
    results.into_iter().collect()
}

/// The mistake of the one who waits is not the fault of the other mutex.
fn a_mutex_that_was_named_by_mistake_is_not_poisoned(py: Python<'_>) -> PyResult<()> {
    let (mutex, other, changed) = (Mutex::new(0), Mutex::new(0), Condvar::new());
    panic_of(|| {
        let guard = mutex.lock_attached(py).unwrap();
        changed.wait_timeout_attached(py, &other, guard, Duration::from_millis(1))
    });
    assert!(!other.is_poisoned() && !mutex.is_poisoned());
    assert!(other.try_lock().is_ok() && mutex.try_lock().is_ok());
    Ok(())
}

/// Waits until that many threads wait for the locks of modules that are being imported.
fn wait_until_imports_block(py: Python<'_>, count: usize) -> PyResult<()> {
    let code = c"
import sys, time
def wait(count, deadline=time.monotonic() + 8):
    def blocks(frame):
        return frame.f_code.co_name == 'acquire' and 'importlib._bootstrap' in frame.f_code.co_filename
    while time.monotonic() < deadline:
        if sum(map(blocks, sys._current_frames().values())) >= count:
            return
        time.sleep(0.001)
    raise TimeoutError('too few threads have come to wait for an import lock')
";
    let module = PyModule::from_code(py, code, c"imports_block.py", c"imports_block")?;
    module.call_method1("wait", (count,)).map(drop)
}

/// Modules for a test to import, by name and code.
fn modules(py: Python<'_>, modules: &[(&str, &str)]) -> PyResult<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, code) in modules {
        std::fs::write(folder.path().join(format!("{name}.py")), code)?;
    }
    py.import("sys")?
        .getattr("path")?
        .call_method1("insert", (0, folder.path().to_str()))?;
    Ok(folder)
}

/// A fills a cell and imports `first`, which B imports, who has never touched a lock of ours; and `first` imports `second`, which C
/// imports, and which asks for the cell.
fn a_cycle_through_the_imports_of_a_stranger_is_seen(py: Python<'_>) -> PyResult<()> {
    static CELL: PyOnceLock<i32> = PyOnceLock::new();
    static BODIES: AtomicUsize = AtomicUsize::new(0);
    static FILLING: AtomicBool = AtomicBool::new(false);
    let _folder = modules(
        py,
        &[
            (
                "first",
                "import sys\nsys.first_runs.set()\nsys.second_runs.wait(8)\nimport second\n",
            ),
            (
                "second",
                "import sys\nsys.second_runs.set()\nsys.ask_for_the_cell()\n",
            ),
        ],
    )?;
    let sys = py.import("sys")?;
    let event = py.import("threading")?.getattr("Event")?;
    sys.setattr("first_runs", event.call0()?)?;
    sys.setattr("second_runs", event.call0()?)?;
    let ask = Callback::new(|py| {
        if BODIES.fetch_add(1, SeqCst) > 0 {
            return Ok(()); // It is imported again by one of those that waited.
        }
        wait_until(py, "A fills the cell", || FILLING.load(SeqCst));
        wait_until_imports_block(py, 2)?;
        CELL.get_or_try_init_py(py, || Ok(1)).map(drop)
    });
    sys.setattr("ask_for_the_cell", ask)?;
    let names = PyDict::new(py);
    let stranger = PythonThread::start("import first", &names)?;
    let first_runs = sys.getattr("first_runs")?.unbind();
    let (filled, imported) = on_two_threads(
        py,
        |py| {
            let first_runs = first_runs.call_method1(py, "wait", (8,));
            first_runs.expect("it can be waited for");
            CELL.get_or_init_checked(py, || {
                FILLING.store(true, SeqCst);
                i32::from(py.import("first").is_ok())
            })
            .map(drop)
        },
        |py| py.import("second").map(drop),
    );
    filled?;
    let message = imported
        .expect_err("the body was told")
        .value(py)
        .to_string();
    for part in [
        "3 threads wait for each other",
        "waits to import the module \"first\"",
        "waits to import the module \"second\"",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let _ = stranger.join(py);
    Ok(())
}

/// C imports a module, which asks to write to what A and others read; A imports that module.
fn a_cycle_through_an_import_lock_and_one_of_many_readers_is_seen(py: Python<'_>) -> PyResult<()> {
    static LOCK: PyRwLock<i32> = PyRwLock::new(0);
    static BODIES: AtomicUsize = AtomicUsize::new(0);
    static READERS: AtomicUsize = AtomicUsize::new(0);
    static DONE: AtomicBool = AtomicBool::new(false);
    let _folder = modules(py, &[("writes", "import sys\nsys.write()\n")])?;
    let write = Callback::new(|py| {
        if BODIES.fetch_add(1, SeqCst) > 0 {
            return Ok(());
        }
        wait_until(py, "all read", || READERS.load(SeqCst) == 3);
        wait_until_imports_block(py, 1)?;
        drop(LOCK.write_with(py, Wait::new().interruptible())?);
        Ok(())
    });
    py.import("sys")?.setattr("write", write)?;
    let results = on_threads(py, 4, |py, number| {
        if number == 3 {
            let imported = py.import("writes").map(drop);
            DONE.store(true, SeqCst);
            return imported;
        }
        // One after the other, so that there are readers before and after the one that imports.
        wait_until(py, "its turn has come", || READERS.load(SeqCst) == number);
        let _guard = LOCK.read_checked(py)?;
        if number == 1 {
            wait_until(py, "the body runs", || BODIES.load(SeqCst) > 0);
        }
        READERS.fetch_add(1, SeqCst);
        if number == 1 {
            drop(py.import("writes"));
        } else {
            wait_until(py, "it is over", || DONE.load(SeqCst));
        }
        Ok(())
    });
    let told = results.into_iter().filter_map(Result::err).next();
    let message = told.expect("the body was told").value(py).to_string();
    assert!(
        message.contains("2 threads wait for each other"),
        "{message}"
    );
    assert!(
        message.contains("waits to import the module \"writes\""),
        "{message}"
    );
    Ok(())
}

/// A free lock that is reserved for a thread which cannot attach any more.
fn a_reservation_does_not_outlive_the_interpreter(py: Python<'_>) -> PyResult<()> {
    let finished = finish(py, child(py, "regressions::reserved_at_exit")?, CHILD_LIMIT)?;
    finished.expect_success();
    assert!(
        finished.output.ends_with("the call returned"),
        "{}",
        finished.output
    );
    Ok(())
}

static MUTEX_AT_EXIT: PyMutex<()> = PyMutex::new(());
static WRITTEN_AT_EXIT: PyRwLock<()> = PyRwLock::new(());
static READ_AT_EXIT: PyRwLock<()> = PyRwLock::new(());

fn reserved_at_exit(py: Python<'_>) -> PyResult<()> {
    static ARE_LOCKED: AtomicBool = AtomicBool::new(false);
    static SLEEPERS: [Sleeper; 3] = [Sleeper::new(), Sleeper::new(), Sleeper::new()];
    let names = PyDict::new(py);
    let waits: [fn(Python<'_>); 3] = [
        |py| drop(MUTEX_AT_EXIT.lock(py)),
        |py| drop(WRITTEN_AT_EXIT.write(py)),
        |py| drop(READ_AT_EXIT.read(py)),
    ];
    for (number, wait) in waits.into_iter().enumerate() {
        let wait = Callback::new(move |py| {
            wait_until(py, "they are locked", || ARE_LOCKED.load(SeqCst));
            SLEEPERS[number].announce();
            wait(py);
            Ok(())
        });
        let name = format!("wait_{number}");
        names.set_item(&name, wait)?;
        PythonThread::start(&format!("{name}()"), &names)?;
    }
    let reserve = Callback::new(|py| {
        let mutex = MUTEX_AT_EXIT.lock(py);
        let written = WRITTEN_AT_EXIT.write(py);
        let read = READ_AT_EXIT.write(py);
        ARE_LOCKED.store(true, SeqCst);
        wait_until(py, "all sleep", || SLEEPERS.iter().all(Sleeper::is_asleep));
        // From here on no other thread gets the GIL: the interpreter is shut down next.
        py.import("sys")?
            .call_method1("setswitchinterval", (1000,))?;
        let unlock: [Box<dyn FnOnce()>; 3] = [
            Box::new(|| drop(mutex)),
            Box::new(|| drop(written)),
            Box::new(|| drop(read)),
        ];
        for unlock in unlock {
            thread::sleep(Duration::from_millis(5)); // Attached. Until it is to be reserved.
            unlock();
        }
        Ok(())
    });
    py.import("atexit")?.call_method1("register", (reserve,))?;
    Callback::new(|py| {
        assert!(MUTEX_AT_EXIT.try_lock(py).is_some());
        assert!(WRITTEN_AT_EXIT.try_write(py).is_some());
        assert!(READ_AT_EXIT.try_write(py).is_some());
        Ok(())
    })
    .at_finalisation(py)
}

/// What the traits of `pyo3::sync` and of `pyo3_sync::ext` have in common.
trait Attached {
    fn lock<'a>(py: Python<'_>, mutex: &'a Mutex<()>) -> MutexGuard<'a, ()>;
    fn read<'a>(py: Python<'_>, lock: &'a RwLock<()>) -> RwLockReadGuard<'a, ()>;
}

struct Ours;

impl Attached for Ours {
    fn lock<'a>(py: Python<'_>, mutex: &'a Mutex<()>) -> MutexGuard<'a, ()> {
        pyo3_sync::ext::MutexExt::lock_attached(mutex, py).unwrap()
    }
    fn read<'a>(py: Python<'_>, lock: &'a RwLock<()>) -> RwLockReadGuard<'a, ()> {
        pyo3_sync::ext::RwLockExt::read_attached(lock, py).unwrap()
    }
}

struct Theirs;

impl Attached for Theirs {
    fn lock<'a>(py: Python<'_>, mutex: &'a Mutex<()>) -> MutexGuard<'a, ()> {
        pyo3::sync::MutexExt::lock_py_attached(mutex, py).unwrap()
    }
    #[cfg(not(pyo3_before_0_29))]
    fn read<'a>(py: Python<'_>, lock: &'a RwLock<()>) -> RwLockReadGuard<'a, ()> {
        pyo3::sync::RwLockExt::read_py_attached(lock, py).unwrap()
    }
    #[cfg(pyo3_before_0_29)]
    fn read<'a>(_: Python<'_>, _: &'a RwLock<()>) -> RwLockReadGuard<'a, ()> {
        unreachable!("this PyO3 may not have the trait, and the test is not run")
    }
}

/// A reader who has waited attaches with the lock in its hands, while the writer that let it in stays attached and wants to write again.
/// The writer waits for the reader, which waits for the GIL.
fn a_reader_attaches<A: Attached>(py: Python<'_>) -> PyResult<()> {
    let lock = RwLock::new(());
    let (is_written, reader) = (AtomicBool::new(false), Sleeper::default());
    on_two_threads(
        py,
        |py| {
            let writing = lock.write().unwrap();
            is_written.store(true, SeqCst);
            wait_until(py, "the reader waits", || reader.is_asleep());
            drop(writing);
            // Attached. Ours is in possession for a moment only, which may be missed.
            let deadline = Instant::now() + Duration::from_secs(1);
            while lock.try_write().is_ok() && Instant::now() < deadline {
                thread::yield_now();
            }
            drop(lock.write().unwrap());
        },
        |py| {
            wait_until(py, "it is written", || is_written.load(SeqCst));
            reader.announce();
            drop(A::read(py, &lock));
        },
    );
    Ok(())
}

/// A thread waits for a mutex when the interpreter shuts down, and gets it then. It cannot attach any more.
fn a_waiter_is_left_at_exit<A: Attached>(py: Python<'_>) -> PyResult<()> {
    static MUTEX: Mutex<()> = Mutex::new(());
    static IS_OWNED: AtomicBool = AtomicBool::new(false);
    static UNLOCK: AtomicBool = AtomicBool::new(false);
    static WAITER: Sleeper = Sleeper::new();
    thread::spawn(|| {
        let _guard = MUTEX.lock().unwrap();
        IS_OWNED.store(true, SeqCst);
        wait_until_detached("told to unlock", || UNLOCK.load(SeqCst));
    });
    wait_until(py, "it is owned", || IS_OWNED.load(SeqCst));
    let wait = Callback::new(|py| {
        WAITER.announce();
        drop(A::lock(py, &MUTEX));
        Ok(())
    });
    let names = PyDict::new(py);
    names.set_item("wait", wait)?;
    PythonThread::start("wait()", &names)?;
    wait_until(py, "a thread waits", || WAITER.is_asleep());
    Callback::new(|py| {
        UNLOCK.store(true, SeqCst);
        // It may have the mutex, or have given it back.
        py.detach(|| thread::sleep(Duration::from_millis(500)));
        drop(A::lock(py, &MUTEX));
        Ok(())
    })
    .at_finalisation(py)
}

fn our_reader_attaches(py: Python<'_>) -> PyResult<()> {
    a_reader_attaches::<Ours>(py)
}

fn their_reader_attaches(py: Python<'_>) -> PyResult<()> {
    a_reader_attaches::<Theirs>(py)
}

fn our_waiter_is_left_at_exit(py: Python<'_>) -> PyResult<()> {
    a_waiter_is_left_at_exit::<Ours>(py)
}

fn their_waiter_is_left_at_exit(py: Python<'_>) -> PyResult<()> {
    a_waiter_is_left_at_exit::<Theirs>(py)
}

/// Not a regression of this crate's: what it is there for. If PyO3's traits stop hanging, the documentation of `ext` is to be changed.
fn ours_end_and_theirs_hang(py: Python<'_>, ours: &str, theirs: &str) -> PyResult<()> {
    finish(py, child(py, ours)?, CHILD_LIMIT)?.expect_success();
    let finished = finish(py, child(py, theirs)?, Duration::from_secs(5))?;
    assert!(
        finished.status.is_none(),
        "PyO3's trait does not hang any more: {finished:?}"
    );
    Ok(())
}

fn readers_of_pyo3_attach_under_their_guard(py: Python<'_>) -> PyResult<()> {
    ours_end_and_theirs_hang(
        py,
        "regressions::our_reader_attaches",
        "regressions::their_reader_attaches",
    )
}

fn waiters_of_pyo3_keep_the_lock_at_exit(py: Python<'_>) -> PyResult<()> {
    ours_end_and_theirs_hang(
        py,
        "regressions::our_waiter_is_left_at_exit",
        "regressions::their_waiter_is_left_at_exit",
    )
}

/// With the GIL the writer keeps the reader from attaching. Without one it would take a collection at the right moment.
fn nothing_to_attach_under(py: Python<'_>) -> Option<String> {
    if is_free_threaded(py) {
        return Some("without a GIL the reader attaches beside the writer".to_owned());
    }
    cfg!(pyo3_before_0_29).then(|| "older PyO3 has no `RwLockExt`".to_owned())
}

/// Before Python 3.14 a thread that cannot attach is unwound by force, and its guard with it; or, with older PyO3, ends the process.
fn threads_are_unwound(py: Python<'_>) -> Option<String> {
    (py.version_info() < (3, 14)).then(|| {
        "before Python 3.14 a thread that cannot attach is unwound, its guard included".to_owned()
    })
}

/// Checks that a message names the primitive by its type, and by the line that created it if
/// that is recorded.
fn assert_names(message: &str, name: &str, line: u32) {
    let named = message.split(&format!("the {name} at 0x")).nth(1);
    let after_address = named.map(|text| text.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    let expected = match cfg!(debug_assertions) {
        true => format!(" created at {}:{line}:", file!()),
        false => String::new(),
    };
    assert!(
        after_address.is_some_and(|text| text.starts_with(&expected)),
        "{expected:?} not in {message}"
    );
}

fn messages_name_the_type_and_its_place(py: Python<'_>) -> PyResult<()> {
    static MUTEX: (PyMutex<i32>, u32) = (PyMutex::new(0), line!());
    static RWLOCK: (PyRwLock<i32>, u32) = (PyRwLock::new(0), line!());
    static LAZY: (PyLazy<i32>, u32) = (PyLazy::new(|py| *LAZY.0.get(py)), line!());
    let (mutex, line_of_mutex) = (PyMutex::<i32>::default(), line!());
    let (rwlock, line_of_rwlock) = (PyRwLock::<i32>::from(1), line!());
    let (once, line_of_once) = (PyOnce::new(), line!());
    let (cell, line_of_cell) = (PyOnceLock::new(), line!());

    for (mutex, line) in [(&MUTEX.0, MUTEX.1), (&mutex, line_of_mutex)] {
        let _guard = mutex.lock(py);
        assert_names(&panic_of(|| *mutex.lock(py)), "PyMutex", line);
    }
    for (rwlock, line) in [(&RWLOCK.0, RWLOCK.1), (&rwlock, line_of_rwlock)] {
        let _guard = rwlock.write(py);
        assert_names(&panic_of(|| *rwlock.read(py)), "PyRwLock", line);
    }
    let of_initializer = |message: String, name: &str, what: &str, line| {
        assert_names(&message, name, line);
        for part in [
            format!("is running the {what} of the {name} "),
            format!("accessed the {name} again at {}:", file!()),
        ] {
            assert!(message.contains(&part), "{part:?} not in {message}");
        }
    };
    let message = panic_of(|| once.call_once(py, || once.call_once(py, || ())));
    of_initializer(message, "PyOnce", "closure", line_of_once);
    let message = panic_of(|| *LAZY.0.get(py));
    of_initializer(message, "PyLazy", "initializer", LAZY.1);
    let message = panic_of(|| *cell.get_or_init(py, || *cell.get_or_init(py, || 1)));
    of_initializer(message, "PyOnceLock", "initializer", line_of_cell);

    let finished = finish(
        py,
        child(py, "regressions::meets_nobody_at_exit")?,
        CHILD_LIMIT,
    )?;
    finished.expect_success();
    assert_names(&finished.output, "PyBarrier", LINE_OF_BARRIER);
    assert_names(&finished.output, "PyCondvar", LINE_OF_CONDVAR);
    for part in [
        "at which no other thread can arrive any more",
        "which no other thread can notify any more",
    ] {
        assert!(finished.output.contains(part), "{}", finished.output);
    }
    Ok(())
}

const LINE_OF_BARRIER: u32 = line!() + 1;
static BARRIER: PyBarrier = PyBarrier::new(2);
const LINE_OF_CONDVAR: u32 = line!() + 1;
static CONDVAR: PyCondvar = PyCondvar::new();

fn meets_nobody_at_exit(py: Python<'_>) -> PyResult<()> {
    Callback::new(|py| {
        let mutex = PyMutex::new(());
        let error = CONDVAR.wait_checked(&mut mutex.lock(py)).unwrap_err();
        eprintln!("{error}");
        BARRIER.wait_checked(py).map(drop).map_err(PyErr::from)
    })
    .at_finalisation(py)
}

/// A thread whose wait at a barrier times out is not counted.
fn barrier_does_not_count_waits_that_timed_out(py: Python<'_>) -> PyResult<()> {
    let (barrier, limit) = (PyBarrier::new(2), Duration::from_millis(20));
    for _ in 0..3 {
        let start = Instant::now();
        assert!(barrier.wait_with(py, limit).is_err());
        assert!(start.elapsed() >= limit);
        assert!(barrier.wait_with(py, start).is_err());
    }
    let long = Duration::from_secs(8);
    let results = on_threads(py, 2, |py, _| barrier.wait_with(py, long).ok());
    let leaders = results.iter().flatten().filter(|met| met.is_leader());
    assert_eq!((leaders.count(), results.iter().flatten().count()), (1, 2));
    // Threads whose waits do not time out rendezvous in pairs.
    let met = AtomicUsize::new(0);
    on_threads(py, 4, |py, number| {
        for _ in 0..200 {
            let limit = Duration::from_micros(50 * number as u64);
            if barrier.wait_with(py, limit).is_ok() {
                met.fetch_add(1, SeqCst);
            }
        }
    });
    assert_eq!(met.load(SeqCst) % 2, 0);
    Ok(())
}

/// Converting a guard keeps the lock held: it is neither released nor acquired again.
fn into_arc_keeps_the_lock_held(py: Python<'_>) -> PyResult<()> {
    let acquired_at = |line: u32| match cfg!(debug_assertions) {
        true => format!("(acquired at {}:{line}:", file!()),
        false => String::new(),
    };
    let mutex = Arc::new(PyMutex::new(1));
    let (guard, line) = (mutex.lock(py), line!());
    let mut guard = PyMutexGuard::into_arc(guard, &mutex, py);
    *guard += 1;
    assert_eq!(Arc::strong_count(&mutex), 2);
    assert!(on_threads(py, 1, |py, _| mutex.try_lock(py).is_none())[0]);
    let message = panic_of(|| *mutex.lock(py));
    assert!(message.contains(&acquired_at(line)), "{message}");
    drop(guard);
    assert_eq!((*mutex.lock(py), Arc::strong_count(&mutex)), (2, 1));

    let lock = Arc::new(PyRwLock::new(1));
    let reading = PyRwLockReadGuard::into_arc(lock.read(py), &lock, py);
    assert!(
        on_threads(py, 1, |py, _| lock.try_read(py).is_some()
            && lock.try_write(py).is_none())[0]
    );
    assert!(!ArcPyRwLockReadGuard::unlock(reading).is_locked());

    let (writing, line) = (lock.write(py), line!());
    let mut writing = PyRwLockWriteGuard::into_arc(writing, &lock, py);
    *writing += 1;
    assert!(on_threads(py, 1, |py, _| lock.try_read(py).is_none())[0]);
    let message = panic_of(|| *lock.write(py));
    assert!(message.contains(&acquired_at(line)), "{message}");
    assert!(!ArcPyRwLockWriteGuard::unlock(writing).is_locked());
    assert_eq!(*lock.read(py), 2);
    Ok(())
}

/// The panic drops the guard, which poisons its own lock unless it is for reading.
fn into_arc_panics_with_the_guard_of_another_lock(py: Python<'_>) -> PyResult<()> {
    const MESSAGE: &str = "the guard belongs to another lock than the `Arc`";
    let mutexes = [0, 0].map(|value| Arc::new(PyMutex::new(value)));
    let message = panic_of(|| PyMutexGuard::into_arc(mutexes[0].lock(py), &mutexes[1], py));
    assert_eq!(message, MESSAGE);
    assert_eq!(
        mutexes.each_ref().map(|mutex| mutex.is_locked()),
        [false; 2]
    );
    assert_eq!(
        mutexes.each_ref().map(|mutex| mutex.is_poisoned()),
        [true, false]
    );

    let locks = [0, 0].map(|value| Arc::new(PyRwLock::new(value)));
    let read = || PyRwLockReadGuard::into_arc(locks[0].read(py), &locks[1], py);
    assert_eq!(panic_of(read), MESSAGE);
    assert!(!locks[0].is_poisoned());
    let write = || PyRwLockWriteGuard::into_arc(locks[0].write(py), &locks[1], py);
    assert_eq!(panic_of(write), MESSAGE);
    assert_eq!(locks.each_ref().map(|lock| lock.is_locked()), [false; 2]);
    assert_eq!(
        locks.each_ref().map(|lock| lock.is_poisoned()),
        [true, false]
    );
    assert_eq!(mutexes.map(|mutex| Arc::strong_count(&mutex)), [1; 2]);
    assert_eq!(locks.map(|lock| Arc::strong_count(&lock)), [1; 2]);
    Ok(())
}

fn without_fork_or_gil(py: Python<'_>) -> Option<String> {
    let reason = || ONLY_A_GIL_KEEPS_THEM_FROM_ATTACHING.to_owned();
    is_free_threaded(py)
        .then(reason)
        .or_else(|| without_fork(py))
}

const ONLY_A_GIL_KEEPS_THEM_FROM_ATTACHING: &str =
    "without a GIL the thread that a lock is reserved for attaches and takes it at once";

pub(crate) const MODULE: Module = Module {
    tests: &[
        test!(a_lock_that_was_read_last_of_many_can_be_read_again),
        test!(a_barrier_counts_only_threads_that_exist).unless(without_fork),
        test!(a_takeover_that_fails_changes_nothing)
            .limit(30)
            .unless(without_fork),
        test!(a_reservation_for_readers_ends_with_a_fork).unless(without_fork_or_gil),
        test!(a_mutex_that_was_named_by_mistake_is_not_poisoned),
        test!(a_cycle_through_the_imports_of_a_stranger_is_seen).limit(20),
        test!(a_cycle_through_an_import_lock_and_one_of_many_readers_is_seen).limit(20),
        test!(a_reservation_does_not_outlive_the_interpreter)
            .only_with_gil(ONLY_A_GIL_KEEPS_THEM_FROM_ATTACHING),
        test!(readers_of_pyo3_attach_under_their_guard)
            .limit(30)
            .unless(nothing_to_attach_under),
        test!(waiters_of_pyo3_keep_the_lock_at_exit)
            .limit(30)
            .unless(threads_are_unwound),
        test!(messages_name_the_type_and_its_place).limit(20),
        test!(barrier_does_not_count_waits_that_timed_out),
        test!(into_arc_keeps_the_lock_held),
        test!(into_arc_panics_with_the_guard_of_another_lock),
    ],
    scenarios: &[
        scenario!(reserved_at_exit),
        scenario!(our_reader_attaches),
        scenario!(their_reader_attaches),
        scenario!(our_waiter_is_left_at_exit),
        scenario!(their_waiter_is_left_at_exit),
        scenario!(meets_nobody_at_exit),
    ],
};
