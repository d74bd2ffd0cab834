use std::{process::Command, thread, time::Duration};

use pyo3::prelude::*;

#[pyfunction]
fn pause() {
    thread::sleep(Duration::from_secs(1)); //~ blocking-slow
}

#[pyfunction]
fn run() -> bool {
    Command::new("true").status().is_ok() //~ blocking-slow
}

#[pyfunction]
fn finish(mut child: std::process::Child) -> std::io::Result<()> {
    child.wait()?; //~ blocking-slow
    child.kill()
}
