//! `PySnapshot` beside a read-write lock and a plain static: loaded by one thread, and replaced.

use std::{hint::black_box, sync::OnceLock};

use pyo3::prelude::*;
use pyo3_sync::{PyRwLock, PySnapshot};

use crate::harness::{Group, OURS, Outcome, Peer, Subject, compare};

pub(crate) const GROUP: Group = Group {
    name: "snapshot",
    benchmarks: &[("load", load), ("store", store)],
    free_threaded_only: &[],
};

static SNAPSHOT: PySnapshot<u64> = PySnapshot::new(1);
static RWLOCK: PyRwLock<u64> = PyRwLock::new(1);
static PLAIN: OnceLock<u64> = OnceLock::new();

const LOCK: &str = "PyRwLock";

fn load(py: Python<'_>) -> Outcome {
    PLAIN.get_or_init(|| 1);
    SNAPSHOT.store(py, 1);
    let subjects = vec![
        Subject::repeated(OURS, || *black_box(&SNAPSHOT).load(py)),
        Subject::repeated(LOCK, || *black_box(&RWLOCK).read(py)),
        Subject::repeated("plain static", || *PLAIN.get().expect("it is filled")),
        Subject::empty_loop(),
    ];
    compare(31, subjects)
        .target(Peer::Named(LOCK), 1.0)
        .target(Peer::Nanosecond, 5.0)
}

fn store(py: Python<'_>) -> Outcome {
    let subjects = vec![
        Subject::repeated(OURS, || black_box(&SNAPSHOT).store(py, 1)),
        Subject::repeated(LOCK, || *black_box(&RWLOCK).write(py) = 1),
        Subject::empty_loop(),
    ];
    compare(31, subjects)
}
