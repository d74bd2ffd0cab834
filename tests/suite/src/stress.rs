//! Everything at once: threads that do random things with all primitives, and an oracle that knows what must hold.
//!
//! A **round** is a process in which threads act for a few seconds, from a seed: `cargo stress` runs one after the other, and prints
//! how to run one again. The seed fixes which features a round has and what each thread sets out to do, not how threads are
//! interleaved: a failure may need several tries to come back.
//!
//! What must hold:
//!
//! - Data under a lock have an invariant that a thread breaks and mends while it owns the lock; they are found whole, and nobody
//!   changes them in between. At the end they have been changed as often as threads believe.
//! - Cells are filled once, by one run that succeeded, and keep their value.
//! - A thread that is told of a deadlock holds what the report says, and so do the others of the cycle ([`ledger`]).
//! - No panic and no exception but those that are thrown deliberately.
//! - Everything ends: no thread does one thing for longer than a limit.
//! - At the end no object is left, each finaliser has run, and no lock is held.
//! - The child of a fork gets an answer of each lock, can take over what threads held that it does not have, and can use new ones.
//! - The interpreter ends, whatever threads do meanwhile, and finalisers that ask for locks then get an answer.

mod actions;
mod answers;
mod chance;
mod fork;
mod ledger;
mod module_state;
mod old_types;
mod passages;
mod shutdown;
mod threads;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_sync::{PyCondvar, PyMutex, PyProtected, PyRwLock};

use self::actions::{act_contained, fresh_cells};
use self::world::{Account, Believed, COUNTS, World, count, expect, fail, world};
use crate::callback::Callback;
use crate::fork::{allow_forks, without_fork};
use crate::harness::without_signals;
use crate::panics::silence_deadlocks;
use crate::registry::Module;
use crate::test;

/// How long a thread may be in one action, those inside of it not counted.
const LIMIT: Duration = Duration::from_secs(20);

const THREADS: usize = 4;

/// Runs a round and prints what it did; fails if anything was wrong.
pub(crate) fn round(py: Python<'_>, seed: u64, length: Duration) -> PyResult<()> {
    println!("stress: seed {seed}");
    silence_deadlocks();
    allow_forks(py)?;
    chance::start(seed);
    ledger::this_is_the_main_thread();
    let names = prepare(py)?;
    names.set_item("seed", seed)?;
    world::create(make_world(&names)?);
    set_up_signals(py, &names)?;
    let ends_amid_everything = shutdown::is_possible(py) && chance::one_in(2);
    thread::spawn(watch);
    let detached = thread::spawn(actions::detached_thread);

    let end = Instant::now() + length;
    let workers = start_workers(end);
    while Instant::now() < end {
        // The main thread: the one that signals interrupt.
        act_contained(py);
    }
    stop_signals(py, &names);
    ledger::doing(ledger::JOINING);
    py.detach(|| {
        for worker in workers {
            expect(worker.join().is_ok(), "a thread has panicked");
        }
        world().is_over.store(true, SeqCst);
        expect(detached.join().is_ok(), "a thread has panicked");
    });
    ledger::doing("waits for Python's threads");
    join_python_threads(py)?;
    ledger::doing("checks");
    world().check(py);
    expect_nothing_is_left(py)?;
    if ends_amid_everything {
        shutdown::begin(py, move || report(seed))
    } else {
        report(seed)
    }
}

/// What Python code a round needs.
fn prepare<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let names = PyDict::new(py);
    let finalise = Callback::new(|py| {
        count(&COUNTS.finalisers);
        // At the end, no new objects.
        if !world().is_over.load(SeqCst) {
            act_in_the_middle(py);
        }
        Ok(())
    });
    let handle = Callback::new(|py| {
        count(&COUNTS.signals);
        act_in_the_middle(py);
        Ok(())
    });
    let load = Callback::new(|py| {
        let _inside = ledger::inside();
        act_contained(py);
        act_contained(py);
        Ok(())
    });
    names.set_item("finalise", finalise)?;
    names.set_item("handle", handle)?;
    names.set_item("load", load)?;
    let code = c"
import importlib.abc, importlib.machinery, random, signal, sys

class Deliberate(Exception):
    pass

class Interrupt(Exception):
    pass

class Mortal:
    Deliberate, Interrupt = Deliberate, Interrupt
    def __del__(self):
        finalise()

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.startswith('stress_module_'):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        load()
        module.value = [module.__name__]
        load()

sys.meta_path.insert(0, Finder())
has_ended = False

def on_signal(number, frame):
    handle()
    if random.random() < 0.3 and may_raise and not has_ended:
        raise Interrupt()

def ignore(arguments):
    # An exception of the signal handler came while a finaliser ran.
    if arguments.exc_type not in (Interrupt, Deliberate):
        sys.__unraisablehook__(arguments)
        complain()

sys.unraisablehook = ignore
";
    let complain = Callback::new(|_| {
        fail("an exception was raised where nobody could catch it: see above");
        Ok(())
    });
    names.set_item("complain", complain)?;
    py.run(code, Some(&names), None)?;
    Ok(names)
}

/// What finalisers and signal handlers do, which run in the middle of anything.
fn act_in_the_middle(py: Python<'_>) {
    if ledger::is_forked() || fork::is_forking() {
        return;
    }
    let _inside = ledger::inside();
    if world().imports {
        // It may be the import machinery, which has locks that are not seen.
        actions::act_without_waiting(py);
    } else {
        act_contained(py);
    }
}

fn make_world(names: &Bound<'_, PyDict>) -> PyResult<World> {
    let py = names.py();
    let mortal = names.get_item("Mortal")?.expect("it is defined");
    let object = || Ok::<_, PyErr>(mortal.getattr("__dict__")?.call_method0("copy")?.unbind());
    // A process that imports does not fork: a thread that holds the interpreter's import lock may run a finaliser that waits for what the
    // forking thread holds, and that thread waits for the import lock. No lock of ours can see that.
    let imports = chance::one_in(2);
    let fork_is_there = without_fork(py).is_none();
    let signals_are_there = without_signals(py).is_none();
    Ok(World {
        mutexes: [(); 4].map(|()| Believed::from(Arc::new(PyMutex::new(Account::default())))),
        rwlocks: [(); 3].map(|()| Believed::from(Arc::new(PyRwLock::new(Account::default())))),
        protected: [(); 3].map(|()| Believed::from(PyProtected::new(Account::default()))),
        objects: [
            (object()?, AtomicU64::new(0), AtomicU64::new(0)),
            (object()?, AtomicU64::new(0), AtomicU64::new(0)),
        ],
        queue: PyMutex::default(),
        added: PyCondvar::new(),
        cells: Mutex::new(Arc::new(fresh_cells())),
        module: Mutex::default(),
        shared: Mutex::default(),
        foreign_mutex: Believed::from(Mutex::default()),
        foreign_changed: Condvar::new(),
        foreign_rwlock: Believed::from(RwLock::default()),
        parking_lot: Believed::from(parking_lot::Mutex::default()),
        forks: !imports && fork_is_there,
        imports,
        signals: signals_are_there && chance::one_in(2),
        is_over: false.into(),
        mortal: mortal.unbind(),
        born: AtomicUsize::new(0),
    })
}

fn set_up_signals(py: Python<'_>, names: &Bound<'_, PyDict>) -> PyResult<()> {
    // An exception in the middle of the import machinery may leave a module locked for ever.
    names.set_item("may_raise", !world().imports)?;
    let code = if without_signals(py).is_none() {
        c"random.seed(seed); signal.signal(signal.SIGUSR2, on_signal)"
    } else {
        c"random.seed(seed)"
    };
    py.run(code, Some(names), None)
}

/// After this no signal handler raises anything.
fn stop_signals(py: Python<'_>, names: &Bound<'_, PyDict>) {
    // It is one that is on its way which may come in between.
    while names.set_item("has_ended", true).is_err()
        || py.run(c"has_ended = True", Some(names), None).is_err()
    {}
}

/// Threads that act until the end, and are replaced by new ones now and then.
fn start_workers(end: Instant) -> Vec<thread::JoinHandle<()>> {
    let worker = |number: u64| {
        thread::spawn(move || {
            let mut life = number;
            while Instant::now() < end {
                let seed = life;
                count(&COUNTS.threads);
                let mortal = thread::spawn(move || {
                    chance::start(seed);
                    threads::attach_first(|py| {
                        for _ in 0..200 {
                            if Instant::now() >= end {
                                break;
                            }
                            act_contained(py);
                        }
                    });
                    chance::number()
                });
                match mortal.join() {
                    Ok(next) => {
                        passages::over();
                        life = next;
                    }
                    Err(_) => return fail("a thread has panicked"),
                }
            }
        })
    };
    (0..THREADS).map(|_| worker(chance::number())).collect()
}

/// Those that nobody waited for, because a signal handler raised an exception meanwhile.
fn join_python_threads(py: Python<'_>) -> PyResult<()> {
    let code = c"
import threading
for thread in threading.enumerate():
    if type(thread) is threading.Thread and thread is not threading.current_thread():
        thread.join()
";
    py.run(code, None, None)
}

/// Collects until there is nothing left: without a GIL, an object that another thread gave up may take more than one round.
fn expect_nothing_is_left(py: Python<'_>) -> PyResult<()> {
    let start = Instant::now();
    let left = || {
        let born = world().born.load(SeqCst);
        (
            world::alive(),
            born - COUNTS.finalisers.load(SeqCst).min(born),
        )
    };
    loop {
        world().clear(py);
        *world().cells.lock().expect("no panic under it") = Arc::new(fresh_cells());
        py.import("gc")?.call_method0("collect")?;
        match left() {
            (0, 0) => return Ok(()),
            // A signal handler may have raised an exception when a finaliser was about to do something.
            (0, immortal) if immortal <= COUNTS.signals.load(SeqCst) => return Ok(()),
            (alive, immortal) if start.elapsed() > Duration::from_secs(8) => {
                fail(&format!(
                    "{alive} objects are left, and {immortal} that have not been finalised"
                ));
                return Ok(());
            }
            _ => py.detach(thread::yield_now),
        }
    }
}

/// Tells what all threads do if one of them gets nowhere. The parent ends the process.
fn watch() {
    loop {
        thread::sleep(Duration::from_millis(500));
        if let Some(threads) = ledger::overdue(LIMIT) {
            fail(&format!("a thread gets nowhere:\n{threads}"));
            thread::sleep(LIMIT);
        }
    }
}

fn report(seed: u64) -> PyResult<()> {
    let number = |count: &AtomicUsize| count.load(SeqCst);
    println!(
        "stress: done: operations={} deadlocks={} panics={} exceptions={} threads={} collections={} finalisers={} signals={} forks={} shutdowns={}",
        number(&COUNTS.operations),
        number(&COUNTS.deadlocks),
        number(&COUNTS.panics),
        number(&COUNTS.exceptions),
        number(&COUNTS.threads),
        number(&COUNTS.collections),
        number(&COUNTS.finalisers),
        number(&COUNTS.signals),
        number(&COUNTS.forks),
        number(&COUNTS.shutdowns),
    );
    match number(&COUNTS.failures) {
        0 => Ok(()),
        failures => Err(PyRuntimeError::new_err(format!(
            "{failures} failures in the round with the seed {seed}"
        ))),
    }
}

/// `cargo stress` runs many of these, longer ones.
fn a_short_round(py: Python<'_>) -> PyResult<()> {
    let seed = crate::random::Random::announced().stream(0).next();
    round(py, seed, Duration::from_secs(2))
}

pub(crate) const MODULE: Module = Module {
    tests: &[test!(a_short_round).limit(60)],
    scenarios: &[],
};
