//! Probes: fresh processes in which many threads make the very first use of an extension at once.
//!
//! A suite proves little about a cell, because one thread of one process initializes it.

use std::{path::Path, process::Command, sync::Mutex, time::Duration};

use pythons::{Interpreter, environment};
use suite_runner::Ending;

use crate::list::Port;

/// Number of processes.
pub(super) const TIMES: usize = 20;

/// Limit of a process, which takes about a second if it does not hang.
const LIMIT: Duration = Duration::from_secs(20);

/// Time before the limit at which a process prints the stacks of its threads.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The results of the processes.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) hung: usize,
    /// The messages of the processes that failed.
    pub(super) errors: Vec<String>,
    /// The output of one that hung.
    pub(super) stacks: Option<String>,
}

impl Outcome {
    pub(super) fn is_good(&self) -> bool {
        self.hung == 0 && self.errors.is_empty()
    }
}

/// Runs the probes of a port, `at_a_time` at once.
pub(super) fn run(
    port: &Port,
    interpreter: &Interpreter,
    modules: &Path,
    at_a_time: usize,
) -> anyhow::Result<Outcome> {
    let python = environment::with_pytest_and(interpreter, port.packages)?;
    let (left, outcome) = (Mutex::new(TIMES), Mutex::new(Outcome::default()));
    let next = || {
        let mut left = left.lock().expect("no thread panics");
        *left = left.checked_sub(1)?;
        Some(())
    };
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            while next().is_some() {
                let finished = suite_runner::watch(command(port, &python, modules), LIMIT)?;
                let mut outcome = outcome.lock().expect("no thread panics");
                match finished.ending {
                    Ending::Exited(0) => {}
                    Ending::Hung(_) => {
                        outcome.hung += 1;
                        outcome.stacks = Some(finished.output);
                    }
                    ending => {
                        let last_line = finished.output.trim_end().lines().next_back();
                        outcome
                            .errors
                            .push(format!("{ending}: {}", last_line.unwrap_or_default()));
                    }
                }
            }
            Ok(())
        };
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no thread panics"))
    })?;
    Ok(outcome.into_inner().expect("no thread panics"))
}

fn command(port: &Port, python: &Path, modules: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-B", "-c", include_str!("probe.py")])
        .arg(modules)
        .arg(port.probe)
        .arg((LIMIT - LAST_WORDS).as_secs_f64().to_string())
        .env("RUST_BACKTRACE", "0")
        .env_remove("PYTHONPATH");
    command
}
