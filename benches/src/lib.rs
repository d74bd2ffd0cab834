//! Benchmarks of pyo3-sync beside its peers, as an extension module for real interpreters.
//! `cargo xtask bench` builds it for a GIL build and a free-threaded one and runs it there.
//!
//! # How it is measured
//!
//! All *subjects* of a benchmark, ours and the peers, are in one process and take turns round by
//! round, so that whatever drifts (clock rate, temperature, other processes) hits all alike. A
//! round is a batch of operations long enough for the clock, and gives one figure per operation.
//! What counts is the minimum of the rounds: disturbances only ever add. Only where threads fight
//! does the median count, since the fastest round is one in which the system let a single thread
//! run.
//!
//! The subjects are types that implement a trait of their benchmark, and the code that measures is
//! generic over it: same work, same code around it. The cost of the loop is measured too, as the
//! subject `empty loop`, and not subtracted: a difference of two figures near the clock rate would
//! feign a precision that there is not.
//!
//! [`memory`] counts sizes and the memory for each thread. `cargo xtask bench --instructions`
//! counts the instructions of the operations in [`instructions`]. `misses.toml` says why a target
//! is missed.
//!
//! Threads are attached while they use the subjects, as extensions are; attaching is outside of
//! what is timed unless a benchmark says otherwise.

mod condvar;
mod fight;
mod harness;
mod instructions;
mod memory;
mod method_call;
mod module_state;
mod mutex;
mod once_lock;
mod protected;
mod python_code;
mod python_lock;
mod report;
mod rwlock;
mod snapshot;

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use pyo3::prelude::*;

use harness::Group;

/// Every file of benchmarks.
const GROUPS: &[Group] = &[
    once_lock::GROUP,
    mutex::GROUP,
    mutex::fairness::GROUP,
    mutex::hand_over::GROUP,
    protected::GROUP,
    rwlock::GROUP,
    snapshot::GROUP,
    module_state::GROUP,
    condvar::GROUP,
    method_call::GROUP,
    python_lock::GROUP,
];

/// Whether threads are attached side by side.
const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);

/// Runs the benchmarks whose name, `group: benchmark`, contains `filter`. Prints a table for each,
/// and writes all figures to the file `json`.
#[pyfunction]
fn run(py: Python<'_>, filter: &str, json: PathBuf) -> PyResult<()> {
    let mut results = Vec::new();
    for group in GROUPS {
        for (name, benchmark) in group.all() {
            let name = format!("{}: {name}", group.name);
            if name.contains(filter) {
                let result = benchmark(py);
                writeln!(stdout(), "{}", report::table(&name, &result))?;
                results.push((name, result));
            }
        }
    }
    let memory = if "memory".contains(filter) {
        memory::measure(py)
    } else {
        Vec::new()
    };
    if !memory.is_empty() {
        writeln!(stdout(), "{}", memory::table(&memory))?;
    }
    let python: String = py.import("sys")?.getattr("version")?.extract()?;
    Ok(std::fs::write(
        json,
        report::json(&python, &results, &memory),
    )?)
}

/// Does the operations of the fast paths under callgrind. Gives their names, in the order of
/// callgrind's counts, of which there are two for each: for so many repetitions, given too, and for
/// twice as many.
#[pyfunction]
fn count_instructions(py: Python<'_>) -> (Vec<&'static str>, u64) {
    (instructions::count(py), instructions::TIMES)
}

/// The extension module.
#[pymodule(gil_used = false)]
fn pyo3_sync_benches(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run, module)?)?;
    module.add_function(wrap_pyfunction!(count_instructions, module)?)
}
