use std::{thread, time::Duration};

use pyo3::prelude::*;

#[pyfunction]
fn pause(py: Python<'_>) {
    py.detach(|| thread::sleep(Duration::from_secs(1)));
    py.allow_threads(|| nap());
    detached(py, || thread::sleep(Duration::from_secs(1)));
    thread::spawn(|| thread::sleep(Duration::from_secs(1)));
}

fn nap() {
    thread::sleep(Duration::from_secs(1));
}

fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(work)
}

#[pyfunction]
fn stop(mut child: std::process::Child) -> std::io::Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}
