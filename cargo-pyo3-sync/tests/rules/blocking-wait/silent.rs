use std::{
    path::Path,
    sync::{Mutex, mpsc::Receiver},
    thread,
};

use pyo3::prelude::*;
use pyo3_sync::PyMutex;
use rayon::prelude::*;

#[pyclass(frozen)]
struct Worker {
    results: PyMutex<Receiver<u64>>,
}

#[pymethods]
impl Worker {
    fn result(&self, py: Python<'_>) -> PyResult<u64> {
        let mut guard = self.results.lock_checked(py)?;
        let results = &mut *guard;
        Ok(py.detach(move || results.recv()).unwrap())
    }
}

// Only threads that are not attached come here.
fn worker(receiver: Receiver<u64>) {
    while let Ok(number) = receiver.recv() {
        println!("{number}");
    }
}

#[pyfunction]
fn start(py: Python<'_>, names: Vec<String>) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || worker(receiver));
    sender.send(1).unwrap();
    py.detach(|| thread::spawn(|| ()).join().unwrap());
    let path = Path::new("a").join("b");
    names.join(path.to_str().unwrap())
}

// Nothing in it needs the interpreter.
#[pyfunction]
fn sum(numbers: Vec<u64>) -> u64 {
    numbers.par_iter().map(|number| number * 2).sum()
}

// A future waits without a thread.
async fn receive(mut receiver: tokio::sync::mpsc::Receiver<u64>) -> Option<u64> {
    receiver.recv().await
}
