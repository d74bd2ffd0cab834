use std::{
    sync::{Barrier, Condvar, Mutex, mpsc::Receiver},
    thread::{self, JoinHandle},
};

use pyo3::prelude::*;
use rayon::prelude::*;

#[pyclass(frozen)]
struct Worker {
    results: Mutex<Receiver<u64>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    barrier: Barrier,
    items: Mutex<Vec<u64>>,
    arrived: Condvar,
}

#[pymethods]
impl Worker {
    fn result(&self) -> u64 {
        self.results.lock().unwrap().recv().unwrap() //~ blocking-wait
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap().take();
        if let Some(thread) = thread {
            thread.join().unwrap(); //~ blocking-wait
        }
    }

    fn meet(&self) {
        self.barrier.wait(); //~ blocking-wait
    }

    fn take(&self) -> Option<u64> {
        let items = self.items.lock().unwrap();
        let mut items = self.arrived.wait_while(items, |items| items.is_empty()).unwrap(); //~ blocking-wait
        items.pop()
    }

    // Through a function that has no token.
    fn run(&self) {
        finish();
    }
}

fn finish() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {}); //~ blocking-wait
}

#[pyfunction]
fn call_all(callbacks: Vec<Py<PyAny>>) {
    callbacks.par_iter().for_each(|callback| { //~ blocking-wait
        Python::attach(|py| drop(callback.call0(py)));
    });
}

#[pyfunction]
fn start() {
    let (sender, receiver) = std::sync::mpsc::channel::<u64>();
    thread::spawn(move || sender.send(1));
    for number in receiver { //~ blocking-wait
        println!("{number}");
    }
}
