//! The double of `src/deadlock.rs`: the error without its message.

#![allow(dead_code)]

use std::fmt;

use stand_in::pyo3::{PyErr, Python};

use crate::wait::Link;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Mutex,
    RwLock,
    OnceLock,
    Once,
    Condvar,
    Barrier,
}

impl LockKind {
    pub(crate) fn is_cell(self) -> bool {
        matches!(self, LockKind::OnceLock | LockKind::Once)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Cycle,
    Finalizing,
    Abandoned,
}

pub(crate) fn panic_with(message: &dyn fmt::Display, _cure: &str) -> ! {
    panic!("{message}")
}

#[derive(Debug)]
pub struct DeadlockError {
    pub(crate) cause: Cause,
    pub(crate) links: usize,
}

impl DeadlockError {
    pub(crate) fn new(_py: Python<'_>, cause: Cause, links: Vec<Link>) -> Self {
        DeadlockError {
            cause,
            links: links.len(),
        }
    }

    pub(crate) fn panic(self) -> ! {
        panic!("{self}")
    }
}

impl fmt::Display for DeadlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deadlock of {} threads: {:?}", self.links, self.cause)
    }
}

impl std::error::Error for DeadlockError {}

impl From<DeadlockError> for PyErr {
    fn from(_: DeadlockError) -> Self {
        PyErr
    }
}
