// A lock of the crate's own around that of `std`: two fields are two locks.

use std::sync::{MutexGuard, PoisonError};

use pyo3::prelude::*;

struct Lock<T>(std::sync::Mutex<T>);

impl<T> Lock<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pyclass(frozen)]
struct Logger {
    handlers: Lock<Vec<i64>>,
    callbacks: Lock<Vec<i64>>,
}

#[pymethods]
impl Logger {
    fn count(&self) -> usize {
        let handlers = self.handlers.lock();
        let callbacks = self.callbacks.lock();
        handlers.len() + callbacks.len()
    }

    fn move_to(&self, other: &Logger) {
        let mut these = self.handlers.lock();
        let mut those = other.handlers.lock(); //~ lock-order
        those.append(&mut these);
    }
}
