//! The double of `src/error.rs`: the errors without their messages.

#![allow(dead_code, unreachable_pub)]

use std::{fmt, panic::resume_unwind};

use stand_in::pyo3::{PyErr, Python};

use crate::wait::{Cause, Deadlock, Failure};

pub(crate) fn panic_with(message: &dyn fmt::Display, _cure: &str) -> ! {
    panic!("{message}")
}

#[derive(Debug)]
pub struct DeadlockError {
    pub(crate) cause: Cause,
    pub(crate) edges: usize,
}

impl DeadlockError {
    pub(crate) fn new(py: Python<'_>, failure: Failure) -> Self {
        match WaitError::new(py, failure) {
            WaitError::Deadlock(error) => error,
            _ => unreachable!("this wait has no timeout and is not interruptible"),
        }
    }

    pub(crate) fn panic(self) -> ! {
        panic!("{self}")
    }
}

impl From<&Deadlock> for DeadlockError {
    fn from(deadlock: &Deadlock) -> Self {
        DeadlockError {
            cause: deadlock.cause,
            edges: deadlock.edges.len(),
        }
    }
}

impl fmt::Display for DeadlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deadlock of {} threads: {:?}", self.edges, self.cause)
    }
}

#[derive(Debug)]
pub enum WaitError {
    Deadlock(DeadlockError),
    TimedOut,
    Interrupted(PyErr),
}

impl WaitError {
    pub(crate) fn new(_py: Python<'_>, failure: Failure) -> Self {
        match failure {
            Failure::Deadlock(deadlock) => WaitError::Deadlock(DeadlockError::from(&deadlock)),
            Failure::Interrupted(error) => WaitError::Interrupted(error),
            Failure::Panicked(panic) => resume_unwind(panic),
            Failure::TimedOut => WaitError::TimedOut,
        }
    }
}

#[derive(Debug)]
pub enum TryAttachedError {
    NotAttached,
    Deadlock(DeadlockError),
}

impl From<DeadlockError> for TryAttachedError {
    fn from(error: DeadlockError) -> Self {
        TryAttachedError::Deadlock(error)
    }
}
