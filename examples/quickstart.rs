//! `cargo run --example quickstart`: a small extension at work in the machine's Python.
//!
//! It keeps a Python type in a [`PyOnceLock`] and totals in a [`PyMutex`], and Python threads call it all at once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use pyo3::{prelude::*, types::PyType};
use pyo3_sync::{PyMutex, PyOnceLock};

const THREADS: u32 = 4;
const CALLS: u32 = 25_000;

/// How often the initialiser of the cell ran, for the report below.
static IMPORTS: AtomicU32 = AtomicU32::new(0);

/// `fractions.Fraction`, imported by the first thread that needs it.
fn fraction(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static FRACTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = FRACTION.get_or_try_init_py(py, || {
        IMPORTS.fetch_add(1, Ordering::Relaxed);
        let class = py.import("fractions")?.getattr("Fraction")?;
        Ok(class.cast_into()?.unbind())
    })?;
    Ok(class.bind(py))
}

/// What each name has been paid: shared by all threads.
static PAID: PyMutex<BTreeMap<String, u64>> = PyMutex::new(BTreeMap::new());

#[pyfunction]
fn pay(py: Python<'_>, name: String, amount: u64) {
    *PAID.lock(py).entry(name).or_default() += amount;
}

/// A share of all that was paid, as an exact fraction.
#[pyfunction]
fn share<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let (part, total) = PAID.with(py, |paid| {
        (
            paid.get(name).copied().unwrap_or(0),
            paid.values().sum::<u64>(),
        )
    });
    fraction(py)?.call1((part, total))
}

/// Looks at the totals for a while under the lock, with the interpreter free for others.
#[pyfunction]
fn audit(py: Python<'_>) -> u64 {
    let mut guard = PAID.lock(py);
    let paid = &mut *guard;
    py.detach(|| {
        std::thread::sleep(Duration::from_millis(50)); // Stands for heavy work.
        paid.values().sum()
    })
}

/// What happens where a lock that is held would be waited for.
#[pyfunction]
fn pay_twice(py: Python<'_>) -> PyResult<()> {
    let _guard = PAID.lock_checked(py)?;
    pay_again(py)
}

fn pay_again(py: Python<'_>) -> PyResult<()> {
    PAID.lock_checked(py)?.clear();
    Ok(())
}

#[pymodule(gil_used = false)]
mod quickstart {
    #[pymodule_export]
    use super::{audit, pay, pay_twice, share};
}

const PROGRAM: &std::ffi::CStr = c"
import threading, quickstart

def work(number):
    quickstart.share('ann')                      # all threads need the type at once
    for _ in range(calls):
        quickstart.pay('ann' if number % 2 else 'bob', 1)

threads = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
quickstart.pay('ann', 0); quickstart.pay('bob', 1)
for thread in threads: thread.start()
seen = quickstart.audit()                        # holds the lock, detached
for thread in threads: thread.join()
total = quickstart.audit()
shares = {name: str(quickstart.share(name)) for name in ('ann', 'bob')}
try:
    quickstart.pay_twice()
except RuntimeError as error:
    deadlock = f'{type(error).__name__}: {error}'
";

fn main() -> PyResult<()> {
    pyo3::append_to_inittab!(quickstart);
    Python::initialize();
    Python::attach(|py| {
        let names = pyo3::types::PyDict::new(py);
        names.set_item("threads", THREADS)?;
        names.set_item("calls", CALLS)?;
        let start = Instant::now();
        py.run(PROGRAM, Some(&names), None)?;
        let time = start.elapsed();
        let get = |name| names.get_item(name).map(|value| value.expect("it is set"));

        println!("Python {}", py.import("sys")?.getattr("version")?);
        println!("{THREADS} Python threads made {CALLS} payments of 1 each, in {time:.0?}:");
        println!(
            "  PyMutex     {} counted in the end ({} expected); the audit in the middle saw {}",
            get("total")?,
            THREADS * CALLS + 1,
            get("seen")?,
        );
        println!(
            "  PyOnceLock  fractions.Fraction imported {} time(s); shares {}",
            IMPORTS.load(Ordering::Relaxed),
            get("shares")?,
        );
        println!("  locking twice in one thread is no hang, but an exception:");
        println!("    {}", get("deadlock")?);
        Ok(())
    })
}
