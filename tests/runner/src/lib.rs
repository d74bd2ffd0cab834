//! Runs the behaviour tests, each in a process of its own, under a watchdog.
//!
//! A lock that fails tends to take its process with it: everything stops, or the interpreter aborts. And some failures
//! only show at the *first touch* of a cell, which in a process that ran other tests before never comes. So every test
//! gets a fresh process, the **child**, and this crate is the parent: it knows nothing of Python, only how to start a
//! child (a [`Launcher`]) and what to say to it. Filters, threads and the report are `libtest-mimic`'s.
//!
//! # What parent and child say to each other
//!
//! The parent adds arguments to the launcher's command:
//!
//! | arguments  | what the child does                                                                            |
//! |------------|------------------------------------------------------------------------------------------------|
//! | `list`     | prints a [`Listing`] as JSON and ends with code 0                                              |
//! | `run NAME` | runs that test; if it passed, prints the line `suite: NAME passed` and ends with code 0        |
//!
//! Others, of which the runner knows nothing, go through [`run_once`].
//!
//! The line is a receipt. A test passes if its child ends normally with code 0 *and* printed the receipt exactly once:
//! a test that leaves through `exit(0)`, or goes on in a forked copy of the process, has not passed.
//!
//! The limit of a test is that of a quiet machine. If processes share the processors, it is longer
//! by a factor ([`load`]), and the child gets the factor for its own timeouts, in
//! `PYO3_SYNC_SUITE_SLOWDOWN`.
//!
//! A child that does not end within the limit is asked for its Python stacks with `SIGUSR1` (on
//! which a child has registered Python's `faulthandler`), and its whole process group is killed. So are the processes that a failed child left in its group:
//! the child of a fork that hangs, perhaps. On Windows there is nothing to ask with, and what is ended is a job.

mod child;
mod group;
mod launcher;
mod load;
#[cfg(unix)]
mod stacks;
#[cfg(windows)]
mod stacks {
    pub(crate) fn of_group(_: &crate::group::Group) -> String {
        "where its threads are cannot be asked on this system".to_owned()
    }
}

use std::fmt::Write;
use std::io;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
pub use libtest_mimic::Arguments;
use libtest_mimic::{Completion, Failed, Trial};

pub use child::{Ending, Finished};
pub use launcher::{Launcher, Listing, Test};

/// How long a child may take to say which tests it has: a slow machine's first start of an interpreter.
const LISTING_LIMIT: Duration = Duration::from_secs(60);

/// What came of one run.
#[derive(Debug)]
pub struct Summary {
    /// The version of the interpreter, as the child told it.
    pub python: String,
    pub free_threaded: bool,
    pub passed: u64,
    pub failed: Vec<Report>,
    pub ignored: Vec<Report>,
    pub elapsed: Duration,
}

/// A test that failed or was ignored, and why.
#[derive(Clone, Debug)]
pub struct Report {
    pub test: String,
    /// One line. What the test printed is in the report on the terminal.
    pub reason: String,
}

/// Runs a program that is no test under the same watch: when this returns, nothing that it started is left.
pub fn watch(command: Command, limit: Duration) -> io::Result<Finished> {
    child::run(command, limit, |_| String::new())
}

/// What came of a child that was started by [`run_once`].
#[derive(Debug)]
pub struct Outcome {
    /// How it ended, unless by itself and with code 0.
    pub failure: Option<String>,
    /// What it printed; after a hang with the stacks of its threads, after another failure with those of the processes it left behind.
    pub output: String,
}

/// Starts one child, which is given `words`, and ends it when `limit` has passed.
///
/// An error means that it could not be started.
pub fn run_once(launcher: &Launcher, words: &[String], limit: Duration) -> anyhow::Result<Outcome> {
    let finished = child::run(launcher.command(words), limit, stacks::of_group)
        .with_context(|| format!("cannot start {}", launcher.name()))?;
    let failure = (finished.ending != Ending::Exited(0)).then(|| finished.ending.to_string());
    Ok(Outcome {
        failure,
        output: finished.to_string(),
    })
}

/// The `main` of a test executable: runs what the command line asks for, then names the ignored tests.
pub fn main(launcher: &Launcher) -> ExitCode {
    match run(launcher, &Arguments::from_args()) {
        Ok(summary) => {
            print!("{}", ignored_tests(&summary));
            ExitCode::from(u8::from(!summary.failed.is_empty()))
        }
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests that `arguments` select and prints the usual report.
///
/// An error means that there was nothing to run: the child could not be started, or has no tests.
pub fn run(launcher: &Launcher, arguments: &Arguments) -> anyhow::Result<Summary> {
    let listing = list(launcher)?;
    let failed = Reports::default();
    let ignored = Reports::default();
    let trials = listing
        .tests
        .into_iter()
        .map(|test| match test.ignored.clone() {
            Some(reason) => ignored_trial(test, reason, &ignored),
            None => trial(test, launcher, &failed),
        })
        .collect();

    let start = Instant::now();
    let conclusion = libtest_mimic::run(arguments, trials);
    let failed = failed.sorted();
    ensure!(
        failed.len() as u64 == conclusion.num_failed,
        "the runner itself failed: see above"
    );
    Ok(Summary {
        python: listing.python,
        free_threaded: listing.free_threaded,
        passed: conclusion.num_passed,
        failed,
        ignored: ignored.sorted(),
        elapsed: start.elapsed(),
    })
}

/// Asks a child which tests there are.
fn list(launcher: &Launcher) -> anyhow::Result<Listing> {
    let finished = child::run(launcher.command(&["list"]), LISTING_LIMIT, stacks::of_group)
        .with_context(|| format!("cannot start {}", launcher.name()))?;
    understand(&finished).with_context(|| format!("asked {} for its tests", launcher.name()))
}

fn understand(finished: &Finished) -> anyhow::Result<Listing> {
    let Finished { ending, output, .. } = finished;
    let output = output.trim();
    ensure!(
        *ending == Ending::Exited(0),
        "it {ending} and printed:\n{output}"
    );
    let listing: Listing =
        serde_json::from_str(output).with_context(|| format!("not a list: {output}"))?;
    ensure!(!listing.tests.is_empty(), "it has none");
    Ok(listing)
}

fn trial(test: Test, launcher: &Launcher, failed: &Reports) -> Trial {
    let (launcher, failed) = (launcher.clone(), failed.clone());
    let kind = launcher.name().to_owned();
    Trial::test(test.name.clone(), move || {
        let mut command = launcher.command(&["run", &test.name]);
        let slowdown = load::slowdown();
        command.env(load::SLOWDOWN, slowdown.to_string());
        let limit = Duration::from_secs(test.limit) * slowdown;
        let (reason, details) = match child::run(command, limit, stacks::of_group) {
            Ok(finished) => match failure(&test, limit, &finished) {
                None => return Ok(()),
                Some(reason) => (reason, finished.to_string()),
            },
            Err(error) => (format!("could not be run: {error}"), String::new()),
        };
        let message = format!("{reason}\n{details}");
        failed.add(test.name, reason);
        Err(Failed::from(message))
    })
    .with_kind(kind)
}

fn ignored_trial(test: Test, reason: String, ignored: &Reports) -> Trial {
    let ignored = ignored.clone();
    Trial::ignorable_test(test.name.clone(), move || {
        ignored.add(test.name, reason.clone());
        Ok(Completion::ignored_with(reason))
    })
}

/// Why a test failed, in one line; `None` if it passed.
fn failure(test: &Test, limit: Duration, finished: &Finished) -> Option<String> {
    match finished.ending {
        Ending::Hung(_) => Some(format!("hung: no result within {} s", limit.as_secs())),
        Ending::Crashed(_) => Some(finished.ending.to_string()),
        Ending::Exited(0) => receipt_missing(test, &finished.output),
        Ending::Exited(_) => {
            let last_line = finished
                .output
                .trim_end()
                .lines()
                .last()
                .unwrap_or("no message");
            Some(format!("{}: {last_line}", finished.ending))
        }
    }
}

/// Why a test that ended well has not passed all the same.
fn receipt_missing(test: &Test, output: &str) -> Option<String> {
    let receipt = format!("suite: {} passed", test.name);
    match output.lines().filter(|line| *line == receipt).count() {
        0 => Some("ended early: code 0, but the test did not come to its end".to_owned()),
        1 => None,
        _ => Some(
            "ended more than once: a forked copy of the process went on with the test".to_owned(),
        ),
    }
}

/// The ignored tests with their reasons, one line each; empty if there are none.
fn ignored_tests(summary: &Summary) -> String {
    let mut text = String::new();
    for Report { test, reason } in &summary.ignored {
        writeln!(text, "ignored: {test}: {reason}").expect("a string takes everything");
    }
    text
}

/// Reports gathered by trials that run on several threads.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Report>>>);

impl Reports {
    fn add(&self, test: String, reason: String) {
        self.0.lock().unwrap().push(Report { test, reason });
    }

    fn sorted(&self) -> Vec<Report> {
        let mut reports = self.0.lock().unwrap().clone();
        reports.sort_by(|a, b| a.test.cmp(&b.test));
        reports
    }
}
