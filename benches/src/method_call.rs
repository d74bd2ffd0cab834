//! What a method costs that Python calls: `counter.increment()`, with the counter kept safe from other threads in each of the ways
//! that an author can choose.
//!
//! Each subject has a Python loop of its own, since the interpreter adapts the code of a loop to the class of the object in it.

use std::{
    ffi::CStr,
    sync::atomic::{AtomicU64, Ordering},
};

use pyo3::{PyClass, prelude::*, sync::critical_section::with_critical_section};
use pyo3_sync::{PyMutex, PyProtected};

use crate::{
    FREE_THREADED,
    harness::{Group, OURS, Outcome, Peer, Subject, compare},
    python_code,
};

pub(crate) const GROUP: Group = Group {
    name: "method call",
    benchmarks: &[("counter.increment()", increment)],
    free_threaded_only: &[],
};

/// A method that does nothing: what all of them cost at least.
#[derive(Default)]
#[pyclass(frozen)]
struct Idle {}

#[pymethods]
impl Idle {
    fn increment(&self) {}
}

/// What most classes are before they are ported: PyO3 keeps a second caller out with an exception.
#[derive(Default)]
#[pyclass]
struct Exclusive {
    value: u64,
}

#[pymethods]
impl Exclusive {
    fn increment(&mut self) {
        self.value += 1;
    }
}

#[derive(Default)]
#[pyclass(frozen)]
struct Atomic {
    value: AtomicU64,
}

#[pymethods]
impl Atomic {
    fn increment(&self) {
        self.value.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
#[pyclass(frozen)]
struct Locked {
    value: PyMutex<u64>,
}

#[pymethods]
impl Locked {
    fn increment(&self, py: Python<'_>) {
        *self.value.lock(py) += 1;
    }
}

#[derive(Default)]
#[pyclass(frozen)]
struct Protected {
    value: PyProtected<u64>,
}

#[pymethods]
impl Protected {
    fn increment(&self, py: Python<'_>) {
        self.value.with_mut(py, |value| *value += 1);
    }
}

/// As C extensions do it: in the critical section of the object.
#[derive(Default)]
#[pyclass]
struct Sectioned {
    value: u64,
}

#[pymethods]
impl Sectioned {
    fn increment(this: &Bound<'_, Self>) {
        with_critical_section(this, || this.borrow_mut().value += 1);
    }
}

#[derive(Default)]
#[pyclass(frozen)]
struct StdLocked {
    value: std::sync::Mutex<u64>,
}

#[pymethods]
impl StdLocked {
    fn increment(&self) {
        *self.value.lock().expect("nothing panics") += 1;
    }
}

/// Ten calls in each turn, so that the loop itself counts for little.
const CALLS: u64 = 10;
const REPEAT: &CStr = c"
def repeat(turns, counter):
    for _ in turns:
        counter.increment(); counter.increment(); counter.increment(); counter.increment(); counter.increment()
        counter.increment(); counter.increment(); counter.increment(); counter.increment(); counter.increment()
";

fn increment(py: Python<'_>) -> Outcome {
    fn subject<'py, C>(py: Python<'py>, name: &'static str) -> Subject<'py>
    where
        C: Default + Into<PyClassInitializer<C>> + PyClass,
    {
        let counter = Bound::new(py, C::default()).expect("it is made");
        python_code::subject(py, name, REPEAT, counter.into_any(), CALLS)
    }
    const ATOMIC: &str = "frozen, atomic";
    let subjects = vec![
        subject::<Locked>(py, OURS),
        subject::<Protected>(py, "pyo3-sync, frozen, PyProtected"),
        subject::<Exclusive>(py, "&mut self"),
        subject::<Atomic>(py, ATOMIC),
        subject::<StdLocked>(py, "frozen, std::sync::Mutex"),
        subject::<Sectioned>(py, "pyo3, section of self"),
        subject::<Idle>(py, "a method that does nothing"),
    ];
    let at_most = if FREE_THREADED { 1.10 } else { 1.03 };
    compare(31, subjects).target(Peer::Named(ATOMIC), at_most)
}
