//! The fast paths, of which `cargo xtask bench --instructions` counts the instructions.
//!
//! callgrind is told to write how much it has counted since the last time whenever [`take_reading`]
//! returns. Each operation is counted twice, so many times and twice as many, and the difference is
//! that of the operations alone.

use std::{convert::Infallible, hint::black_box};

use pyo3::prelude::*;
use pyo3_sync::{PyCondvar, PyLazy, PyMutex, PyOnceLock, PyProtected, PyRwLock, PySnapshot};

use crate::module_state;

/// How often an operation is repeated in the first of the two counts.
pub(crate) const TIMES: u64 = 1000;

/// The name of an operation, and what does it so many times.
type Operation<'a> = (&'static str, Box<dyn Fn(u64) + 'a>);

/// Counts all operations, in the order of the names that are given back.
pub(crate) fn count(py: Python<'_>) -> Vec<&'static str> {
    let module = module_state::module(py);
    let operations = operations(py, &module);
    for (_, operation) in &operations {
        // What happens only once: thread-locals, and functions that the linker looks for when they
        // are called.
        operation(10);
        counted(operation, TIMES);
        counted(operation, 2 * TIMES);
    }
    operations.into_iter().map(|(name, _)| name).collect()
}

/// Has a reading taken before the operations, whose figure is of no interest, and one behind them.
fn counted(operation: &dyn Fn(u64), times: u64) {
    take_reading();
    operation(black_box(times));
    take_reading();
}

/// callgrind knows this function by its name.
#[inline(never)]
fn take_reading() {
    black_box(());
}

fn operation<'a, R>(name: &'static str, once: impl Fn() -> R + 'a) -> Operation<'a> {
    let repeat = move |times| {
        for _ in 0..times {
            black_box(once());
        }
    };
    (name, Box::new(repeat))
}

fn operations<'py>(py: Python<'py>, module: &'py Bound<'py, PyModule>) -> Vec<Operation<'py>> {
    /// Shows a subject to the compiler as one that others know.
    fn known<T>(subject: T) -> Box<T> {
        let subject = Box::new(subject);
        black_box(&*subject);
        subject
    }
    let cell = known(PyOnceLock::new());
    cell.get_or_init(py, || 1_u64);
    let lazy = known(PyLazy::<u64>::new(|_| 1));
    let mutex = known(PyMutex::new(0_u64));
    let rwlock = known(PyRwLock::new(0_u64));
    let (protected, other) = (known(PyProtected::new(0_u64)), known(PyProtected::new(())));
    let condvar = known(PyCondvar::new());
    let snapshot = known(PySnapshot::new(0_u64));
    let filled = PyOnceLock::new();
    filled.get_or_init(py, || 1_u64);
    let filled = known(filled);
    let mutex_in_function = known(PyMutex::new(0_u64));
    let rwlock_written = known(PyRwLock::new(0_u64));
    let protected_read = known(PyProtected::new(0_u64));
    vec![
        operation("nothing: the loop", || ()),
        operation("PyOnceLock::get", move || cell.get(py).copied()),
        operation("PyOnceLock::get_or_init, filled", move || {
            *filled.get_or_init(py, || black_box(1))
        }),
        operation("PyOnceLock::get_or_init, empty", move || {
            let cell = PyOnceLock::new();
            *black_box(&cell).get_or_init(py, || black_box(1_u64))
        }),
        operation("PyLazy::get", move || *lazy.get(py)),
        operation("PyMutex::lock and unlock", move || {
            black_box(&mut *mutex.lock(py));
        }),
        operation("PyMutex::lock and unlock, in a function", move || {
            lock_in_function(&mutex_in_function, py);
        }),
        operation("PyRwLock::read and unlock", move || {
            *black_box(&*rwlock.read(py))
        }),
        operation("PyRwLock::write and unlock", move || {
            black_box(&mut *rwlock_written.write(py));
        }),
        operation("PyProtected::with", move || {
            protected_read.with(py, |data| *black_box(data))
        }),
        operation("PyProtected::with_mut", move || {
            protected.with_mut(py, |data| {
                black_box(data);
            });
        }),
        operation("PyProtected::try_with_mut", move || {
            other
                .try_with_mut(py, |()| Ok::<(), Infallible>(()))
                .is_ok()
        }),
        operation("ModuleState::get", move || {
            module_state::STATE
                .get(black_box(module))
                .map(|state| state.0)
                .is_ok()
        }),
        operation("PySnapshot::load and drop", move || {
            *black_box(&*snapshot.load(py))
        }),
        operation("PyCondvar::notify_one, nobody waits", move || {
            condvar.notify_one();
        }),
    ]
}

#[inline(never)]
fn lock_in_function(mutex: &PyMutex<u64>, py: Python<'_>) {
    black_box(&mut *mutex.lock(py));
}
