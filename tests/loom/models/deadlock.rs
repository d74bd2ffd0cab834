//! The double of `src/deadlock.rs`: the error without its message.

#![allow(dead_code)]

use stand_in::pyo3::{PyErr, Python};

use crate::wait::Link;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Mutex,
    RwLock,
    OnceLock,
}

impl LockKind {
    pub(crate) fn is_cell(self) -> bool {
        matches!(self, LockKind::OnceLock)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Cycle,
    Finalizing,
    Abandoned,
}

pub(crate) struct DeadlockError {
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
}

impl From<DeadlockError> for PyErr {
    fn from(_: DeadlockError) -> Self {
        PyErr
    }
}
