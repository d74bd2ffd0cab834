//! Locks as Python code uses them: CPython's own, `threading.Lock` and `threading.RLock`, beside classes made of ours and the peers'.

use std::{ffi::CStr, sync::Mutex};

use pyo3::{PyClass, prelude::*, sync::MutexExt};
use pyo3_sync::{PyCondvar, PyMutex, Wait};

use crate::{
    harness::{EMPTY_LOOP, Group, OURS, Outcome, compare},
    python_code,
};

pub(crate) const GROUP: Group = Group {
    name: "lock in Python",
    benchmarks: &[
        ("a call under the lock", call),
        ("acquire and release", acquire_and_release),
    ],
    free_threaded_only: &[],
};

/// Calls a function under a lock: what a method does whose work is a call into Python.
#[derive(Default)]
#[pyclass(frozen)]
struct Ours {
    lock: PyMutex<()>,
}

#[pymethods]
impl Ours {
    fn call(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let _locked = self.lock.lock(py);
        function.call0()?;
        Ok(())
    }
}

#[cfg(Py_3_13)]
#[pyclass(frozen)]
struct PyO3 {
    lock: pyo3::sync::nonpoison::PyMutex<()>,
}

#[cfg(Py_3_13)]
#[pymethods]
impl PyO3 {
    fn call(&self, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let _locked = self.lock.lock();
        function.call0()?;
        Ok(())
    }
}

#[derive(Default)]
#[pyclass(frozen)]
struct Std {
    lock: Mutex<()>,
}

#[pymethods]
impl Std {
    fn call(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let _locked = self.lock.lock_py_attached(py);
        function.call0()?;
        Ok(())
    }
}

/// A lock for Python code that is made of ours.
#[derive(Default)]
#[pyclass(frozen)]
struct Lock {
    taken: PyMutex<bool>,
    freed: PyCondvar,
}

#[pymethods]
impl Lock {
    fn acquire(&self, py: Python<'_>) -> PyResult<()> {
        let wait = Wait::new().interruptible();
        let mut taken = self.taken.lock_with(py, wait)?;
        self.freed
            .wait_while_with(&mut taken, |taken| *taken, wait)?;
        *taken = true;
        Ok(())
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        *self.taken.lock_with(py, Wait::new().interruptible())? = false;
        self.freed.notify_one();
        Ok(())
    }
}

const CALL: &CStr = c"
def function(): pass
def repeat(turns, lock, function=function):
    for _ in turns: lock.call(function)
";
const WITH: &CStr = c"
def function(): pass
def repeat(turns, lock, function=function):
    for _ in turns:
        with lock: function()
";
const NO_LOCK: &CStr = c"
def function(): pass
def repeat(turns, lock, function=function):
    for _ in turns: function()
";
const PAIR: &CStr = c"
def repeat(turns, lock):
    for _ in turns: lock.acquire(); lock.release()
";
const EMPTY: &CStr = c"
def repeat(turns, lock):
    for _ in turns: pass
";

fn call(py: Python<'_>) -> Outcome {
    let code = |name, code, object| python_code::subject(py, name, code, object, 1);
    let subjects = vec![
        code(OURS, CALL, made(py, Ours::default())),
        #[cfg(Py_3_13)]
        code(
            "pyo3, no poison",
            CALL,
            made(
                py,
                PyO3 {
                    lock: pyo3::sync::nonpoison::PyMutex::new(()),
                },
            ),
        ),
        code("std, MutexExt", CALL, made(py, Std::default())),
        code("threading.Lock", WITH, of_threading(py, "Lock")),
        code("threading.RLock", WITH, of_threading(py, "RLock")),
        code("no lock", NO_LOCK, py.None().into_bound(py)),
    ];
    compare(31, subjects)
}

fn acquire_and_release(py: Python<'_>) -> Outcome {
    let code = |name, code, object| python_code::subject(py, name, code, object, 1);
    let subjects = vec![
        code(OURS, PAIR, made(py, Lock::default())),
        code("threading.Lock", PAIR, of_threading(py, "Lock")),
        code("threading.RLock", PAIR, of_threading(py, "RLock")),
        code(EMPTY_LOOP, EMPTY, py.None().into_bound(py)),
    ];
    compare(31, subjects)
}

fn made<'py, C>(py: Python<'py>, object: C) -> Bound<'py, PyAny>
where
    C: Into<PyClassInitializer<C>> + PyClass,
{
    Bound::new(py, object).expect("it is made").into_any()
}

fn of_threading<'py>(py: Python<'py>, class: &str) -> Bound<'py, PyAny> {
    py.import("threading")
        .and_then(|threading| threading.call_method0(class))
        .expect("Python has it")
}
