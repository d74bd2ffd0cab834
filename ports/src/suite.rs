//! An extension's own tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use pythons::{Interpreter, build, environment};
use serde::Deserialize;
use serde_json::Value;
use suite_runner::{Ending, Finished};
use xshell::{Shell, cmd};

use crate::list::{Port, Suite};

/// Limit of a suite, or of one executable of `cargo test`. They take seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Number of threads that run each Python test at once on a free-threaded build.
const THREADS: usize = 4;

/// The result of a suite.
#[derive(Debug, Default, Deserialize, PartialEq)]
pub(super) struct Outcome {
    pub(super) passed: usize,
    pub(super) failed: Vec<String>,
    pub(super) skipped: usize,
    /// Tests that cannot be run by several threads at once.
    pub(super) left_out: usize,
    /// The suite did not end.
    #[serde(skip)]
    pub(super) hung: bool,
}

/// Runs the suite of a port in `sources`, with its module in `modules`. Returns the reason if it
/// cannot run here.
pub(super) fn run(
    port: &Port,
    interpreter: &Interpreter,
    sources: &Path,
    modules: &Path,
    target: &Path,
) -> anyhow::Result<Result<Outcome, String>> {
    match port.suite {
        Suite::Pytest {
            tests,
            for_one_thread,
        } => pytest(
            port,
            interpreter,
            &sources.join(tests),
            for_one_thread,
            modules,
        )
        .map(Ok),
        Suite::Cargo => cargo(port, interpreter, sources, target),
    }
}

/// Returns the number of threads that run each Python test at once.
fn threads(interpreter: &Interpreter) -> usize {
    if interpreter.free_threaded {
        THREADS
    } else {
        1
    }
}

/// Returns the cell of the table. `cargo test` chooses the number of threads itself.
pub(super) fn threads_text(port: &Port, interpreter: &Interpreter) -> String {
    match port.suite {
        Suite::Pytest { .. } => threads(interpreter).to_string(),
        Suite::Cargo => "cargo's".to_owned(),
    }
}

fn pytest(
    port: &Port,
    interpreter: &Interpreter,
    tests: &Path,
    for_one_thread: &[(&str, &str)],
    modules: &Path,
) -> anyhow::Result<Outcome> {
    let python = environment::with_pytest_and(interpreter, port.packages)?;
    let threads = threads(interpreter);
    let summary = tempfile::NamedTempFile::new()?;
    let plugin = build::workspace().join("ports/src");
    let mut command = Command::new(python);
    command
        .args(["-B", "-X", "faulthandler", "-m", "pytest", "-q"])
        .args([
            "-p",
            "no:cacheprovider",
            "-p",
            "summary",
            "--color=no",
            "-rfE",
            "--tb=short",
        ])
        .args(["--parallel-threads", &threads.to_string()])
        .arg(tests)
        .current_dir(tests)
        .env("PYTHONPATH", std::env::join_paths([modules, &plugin])?)
        .env("PYO3_SYNC_SUMMARY", summary.path())
        .env_remove("PYTEST_ADDOPTS");
    if threads > 1 {
        for (test, why) in for_one_thread {
            eprintln!("  not by several threads: {test} {why}");
        }
        let names: Vec<_> = for_one_thread.iter().map(|(test, _)| *test).collect();
        if !names.is_empty() {
            command.args(["-k", &format!("not ({})", names.join(" or "))]);
        }
    }
    let finished = suite_runner::watch(command, LIMIT)?;
    if let Ending::Hung(_) = finished.ending {
        return Ok(Outcome {
            hung: true,
            ..Outcome::default()
        });
    }
    let written = fs::read_to_string(summary.path())?;
    ensure!(
        !written.is_empty(),
        "pytest did not end ({}):\n{}",
        finished.ending,
        finished.output
    );
    let outcome: Outcome = serde_json::from_str(&written)?;
    if !outcome.failed.is_empty() {
        eprintln!("{}", finished.output);
    }
    ensure!(
        outcome.passed > 0,
        "not one test passed:\n{}",
        finished.output
    );
    Ok(outcome)
}

/// `cargo test`, which embeds the interpreter: each executable is run under a watch of its own.
fn cargo(
    port: &Port,
    interpreter: &Interpreter,
    sources: &Path,
    target: &Path,
) -> anyhow::Result<Result<Outcome, String>> {
    let python = environment::with_pytest_and(interpreter, port.packages)?;
    let embedding = Embedding::ask(&python)?;
    let Some(libraries) = &embedding.libraries else {
        return Ok(Err(
            "this interpreter has no libpython for `cargo test` to link with".to_owned(),
        ));
    };
    let mut all = Outcome::default();
    for test in build_tests(interpreter, sources, target)? {
        let mut command = Command::new(&test);
        command
            .current_dir(sources)
            .env("LD_LIBRARY_PATH", libraries)
            .env("DYLD_LIBRARY_PATH", libraries)
            .env("PYTHONHOME", &embedding.home)
            .env("PYTHONPATH", &embedding.packages);
        all.add(&test, &suite_runner::watch(command, LIMIT)?)?;
        if all.hung {
            break; // The others would take as long.
        }
    }
    ensure!(all.passed > 0 || all.hung, "not one test passed");
    Ok(Ok(all))
}

impl Outcome {
    /// Adds what an executable of `cargo test` printed.
    fn add(&mut self, test: &Path, finished: &Finished) -> anyhow::Result<()> {
        let output = &finished.output;
        let name = test.file_name().unwrap_or_default().to_string_lossy();
        if let Ending::Hung(_) = finished.ending {
            eprintln!("{name} hung:\n{output}");
            self.hung = true;
            return Ok(());
        }
        let result = output
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("test result: "));
        let Some(result) = result else {
            bail!(
                "{name} {}, before it gave its result:\n{output}",
                finished.ending
            );
        };
        let count = |what: &str| {
            let parts = result.split([';', '.']).map(str::trim);
            let number = parts.filter_map(|part| part.strip_suffix(what)).next_back();
            number.and_then(|number| number.trim().parse::<usize>().ok())
        };
        self.passed += count("passed").context("cargo test counts passed tests")?;
        self.skipped += count("ignored").context("cargo test counts ignored tests")?;
        for line in output.lines() {
            if let Some(test) = line
                .strip_prefix("test ")
                .and_then(|line| line.strip_suffix(" ... FAILED"))
            {
                self.failed.push(test.to_owned());
            }
        }
        if !self.failed.is_empty() {
            eprintln!("{output}");
        }
        Ok(())
    }
}

/// The folders that an embedded interpreter needs.
#[derive(Deserialize)]
struct Embedding {
    libraries: Option<PathBuf>,
    home: PathBuf,
    packages: PathBuf,
}

impl Embedding {
    fn ask(python: &Path) -> anyhow::Result<Self> {
        let script = include_str!("embedding.py");
        let shell = Shell::new()?;
        let answer = cmd!(shell, "{python} -B -c {script}").quiet().read()?;
        serde_json::from_str(&answer)
            .with_context(|| format!("{} did not say where it is: {answer}", python.display()))
    }
}

fn build_tests(
    interpreter: &Interpreter,
    sources: &Path,
    target: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let shell = Shell::new()?;
    shell.change_dir(sources);
    let messages = cmd!(
        shell,
        "cargo test --quiet --no-run --lib --tests --message-format json --target-dir {target}"
    )
    .env("PYO3_PYTHON", &interpreter.path)
    .env_remove("PYO3_BUILD_EXTENSION_MODULE")
    .quiet()
    .read()
    .context("cannot build the tests")?;
    let mut tests = Vec::new();
    for message in messages.lines() {
        let message: Value = serde_json::from_str(message)?;
        if message["profile"]["test"] == true {
            let test = message["executable"]
                .as_str()
                .context("a test is an executable")?;
            tests.push(test.into());
        }
    }
    ensure!(!tests.is_empty(), "cargo built no tests");
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(output: &str) -> Finished {
        Finished {
            ending: Ending::Exited(0),
            left_behind: String::new(),
            output: output.to_owned(),
        }
    }

    #[test]
    fn the_lines_of_cargo_test_are_counted() {
        let mut outcome = Outcome::default();
        let output = "test a ... ok\ntest b::c ... FAILED\n\ntest result: FAILED. 7 passed; \
                      1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.31s\n";
        outcome.add(Path::new("t"), &finished(output)).unwrap();
        outcome
            .add(
                Path::new("t"),
                &finished("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n"),
            )
            .unwrap();
        assert_eq!((outcome.passed, outcome.skipped), (10, 2));
        assert_eq!(outcome.failed, ["b::c"]);
    }

    #[test]
    fn tests_that_end_without_a_result_are_an_error() {
        assert!(
            Outcome::default()
                .add(Path::new("t"), &finished("running 3 tests\n"))
                .is_err()
        );
    }
}
