//! The queue on a [`PyMutex`] and a [`PyCondvar`]: whoever waits lets go of the interpreter, and Ctrl-C ends the wait.

use std::collections::VecDeque;

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use pyo3_sync::{PyCondvar, PyMutex, Wait};

#[pyclass(frozen)]
struct Queue {
    items: PyMutex<VecDeque<Py<PyAny>>>,
    has_items: PyCondvar,
}

#[pymethods]
impl Queue {
    #[new]
    fn new() -> Self {
        Queue {
            items: PyMutex::default(),
            has_items: PyCondvar::new(),
        }
    }

    fn put(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<()> {
        self.items.lock_checked(py)?.push_back(item);
        self.has_items.notify_one();
        Ok(())
    }

    /// Removes the first item, blocking until there is one.
    fn take(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let wait = Wait::new().interruptible();
        let mut items = self.items.lock_with(py, wait)?;
        loop {
            match items.pop_front() {
                Some(item) => return Ok(item),
                None => self.has_items.wait_with(&mut items, wait)?,
            }
        }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.items.lock_checked(py)?.len())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut items = self.items.traverse(&visit).into_iter().flatten();
        items.try_for_each(|item| visit.call(item))
    }

    fn __clear__(&self, py: Python<'_>) {
        let items = std::mem::take(&mut *self.items.lock(py));
        drop(items);
    }
}

#[pymodule(gil_used = false)]
mod work_queue_after {
    #[pymodule_export]
    use super::Queue;
}
