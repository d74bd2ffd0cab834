//! `cargo run --example bounded_queue`: Python threads make jobs, Rust threads do them.
//!
//! The queue between them has room for eight jobs. Who finds it full or empty waits in a [`PyCondvar`], detached, so that the others
//! go on whatever Python this is; and a Python thread can be interrupted with Ctrl-C. A Rust thread attaches to take a job,
//! and works detached.

use std::{collections::VecDeque, thread};

use pyo3::{PyTraverseError, PyVisit, prelude::*, types::PyDict};
use pyo3_sync::{PyCondvar, PyMutex, Wait};

const ROOM: usize = 8;

#[derive(Default)]
struct Jobs {
    /// A list of numbers each.
    waiting: VecDeque<Py<PyAny>>,
    /// Nobody adds any more.
    closed: bool,
}

#[derive(Default)]
#[pyclass(frozen)]
struct Queue {
    jobs: PyMutex<Jobs>,
    added: PyCondvar,
    removed: PyCondvar,
}

#[pymethods]
impl Queue {
    /// Blocks until there is room. Ctrl-C interrupts the wait.
    fn put(&self, py: Python<'_>, job: Py<PyAny>) -> PyResult<()> {
        let wait = Wait::new().interruptible();
        let mut jobs = self.jobs.lock_with(py, wait)?;
        let is_full = |jobs: &mut Jobs| jobs.waiting.len() == ROOM;
        self.removed.wait_while_with(&mut jobs, is_full, wait)?;
        jobs.waiting.push_back(job);
        self.added.notify_one();
        Ok(())
    }

    fn close(&self, py: Python<'_>) {
        self.jobs.lock(py).closed = true;
        self.added.notify_all();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let jobs = self.jobs.traverse(&visit);
        jobs.map_or(Ok(()), |jobs| {
            jobs.waiting.iter().try_for_each(|job| visit.call(job))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // A statement of its own: the jobs are dropped after the guard, since they may come back here.
        let jobs = std::mem::take(&mut *self.jobs.lock(py));
        drop(jobs);
    }
}

impl Queue {
    /// Waits until there is a job; `None` when there will be none any more.
    fn take(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let mut jobs = self.jobs.lock(py);
        let is_idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.closed;
        self.added.wait_while(&mut jobs, is_idle);
        let job = jobs.waiting.pop_front();
        self.removed.notify_one();
        job
    }
}

/// A Rust thread that does jobs until there are none left. Gives how many it did, and the sum of all numbers in them.
fn work(queue: &Queue) -> (usize, u64) {
    Python::attach(|py| {
        let (mut done, mut sum) = (0, 0);
        while let Some(job) = queue.take(py) {
            let numbers: Vec<u64> = job.extract(py).expect("a job is a list of numbers");
            sum += py.detach(|| numbers.iter().map(|number| number * number).sum::<u64>());
            done += 1;
        }
        (done, sum)
    })
}

const PROGRAM: &std::ffi::CStr = c"
import threading

def produce(start):
    for number in range(start, start + 1000):
        queue.put([number] * 10)

threads = [threading.Thread(target=produce, args=(start,)) for start in (0, 1000, 2000)]
for thread in threads: thread.start()
for thread in threads: thread.join()
queue.close()
";

fn main() -> PyResult<()> {
    Python::initialize();
    Python::attach(|py| {
        let queue = Bound::new(py, Queue::default())?;
        let globals = PyDict::new(py);
        globals.set_item("queue", &queue)?;
        let queue = queue.get();
        thread::scope(|scope| {
            let workers = [(); 2].map(|()| scope.spawn(|| work(queue)));
            py.run(PROGRAM, Some(&globals), None)?;
            let results = py.detach(|| workers.map(|worker| worker.join().expect("no panic")));
            let sum: u64 = results.iter().map(|(_, sum)| sum).sum();
            for (number, (done, _)) in results.iter().enumerate() {
                println!("Rust thread {number} did {done} jobs");
            }
            let expected: u64 = (0..3000).map(|number| 10 * number * number).sum();
            println!("3 Python threads made 3000; the sum is {sum}, as it should be: {expected}");
            assert_eq!(sum, expected);
            Ok(())
        })
    })
}
