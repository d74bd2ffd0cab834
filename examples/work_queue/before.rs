//! A queue on the condition variable of the standard library. A thread that waits in it stays attached: with a GIL nobody else can
//! put anything in, and without one the first thing that stops the world waits for it for ever.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex},
};

use pyo3::prelude::*;

#[pyclass(frozen)]
struct Queue {
    items: Mutex<VecDeque<Py<PyAny>>>,
    has_items: Condvar,
}

#[pymethods]
impl Queue {
    #[new]
    fn new() -> Self {
        Queue {
            items: Mutex::default(),
            has_items: Condvar::new(),
        }
    }

    fn put(&self, item: Py<PyAny>) {
        let mut items = self.items.lock().expect("nothing panics under this lock");
        items.push_back(item);
        self.has_items.notify_one();
    }

    /// The item that was put in first; if there is none, waits for one.
    fn take(&self) -> Py<PyAny> {
        let mut items = self.items.lock().expect("nothing panics under this lock");
        loop {
            match items.pop_front() {
                Some(item) => return item,
                None => {
                    let woken = self.has_items.wait(items);
                    items = woken.expect("nothing panics under this lock");
                }
            }
        }
    }

    fn __len__(&self) -> usize {
        let items = self.items.lock().expect("nothing panics under this lock");
        items.len()
    }
}

#[pymodule(gil_used = false)]
mod work_queue_before {
    #[pymodule_export]
    use super::Queue;
}
