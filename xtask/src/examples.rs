//! `cargo xtask examples`: the Python tests of the examples inside each interpreter, and one table
//! of results.
//!
//! An example is a folder in `examples/` with an extension module before it was ported
//! (`before.rs`) and after (`after.rs`), and a test of both, `test_NAME.py`. pytest runs each test
//! in one thread and then in eight at once.

pub(crate) mod demo;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Deserialize;
use xshell::{Shell, cmd};

use pythons::{
    Interpreter,
    build::{self, ExtensionModule},
    environment,
};

/// A build with the GIL, one without, and the machine's own.
const INTERPRETERS: [&str; 3] = ["python3", "3.14", "3.14t"];

/// Numbers of threads that run each test at once.
const THREADS: [usize; 2] = [1, 8];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run in this interpreter: `3.14t` and so on, or `python3` for the machine's own; may be
    /// repeated; python3, 3.14 and 3.14t by default
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Run only this example; may be repeated
    #[arg(value_name = "EXAMPLE")]
    examples: Vec<String>,

    /// Passed on to pytest: `-- -k before`, `-- -x`
    #[arg(last = true)]
    pytest: Vec<String>,
}

/// Returns the folder of the examples.
fn folder() -> PathBuf {
    build::workspace().join("examples")
}

/// Returns the names of all examples, or an error if a file of one is missing.
fn all() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let files = ["before.rs", "after.rs", &format!("test_{name}.py")];
        let missing: Vec<_> = files
            .into_iter()
            .filter(|file| !entry.path().join(file).exists())
            .collect();
        match missing[..] {
            [] => names.push(name),
            [_, _, _] => {} // Not an example.
            _ => bail!("the example {name} lacks {}", missing.join(", ")),
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "there are no examples");
    Ok(names)
}

/// The examples, built for an interpreter that has what they need.
struct Built {
    interpreter: Interpreter,
    /// The Python of an environment with pytest.
    python: PathBuf,
    /// The folder with the extension modules.
    modules: PathBuf,
}

impl Built {
    fn new(interpreter: &str) -> anyhow::Result<Self> {
        let interpreter = pythons::find(interpreter)
            .with_context(|| format!("there is no Python {interpreter}"))?;
        let python = environment::with_pytest(&interpreter)?;
        let modules: Vec<String> = all()?
            .iter()
            .flat_map(|name| [format!("{name}_before"), format!("{name}_after")])
            .collect();
        let modules = ExtensionModule {
            workspace: &build::workspace(),
            package: "pyo3-sync-examples",
            interpreter: &interpreter.path,
            target: &build::target()?.join("examples").join(&interpreter.name),
            optimized: true,
            features: &[],
            rust_flags: "",
        }
        .build_examples(&modules)?;
        Ok(Built {
            interpreter,
            python,
            modules,
        })
    }
}

/// The counts of `conftest.py`.
#[derive(Deserialize)]
struct Summary {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

impl Summary {
    fn ran(&self) -> usize {
        self.passed + self.failed.len()
    }
}

/// The result of the tests in one interpreter with a number of threads; an error if they did not
/// end.
struct Run {
    interpreter: String,
    version: String,
    threads: usize,
    time: Duration,
    result: anyhow::Result<Summary>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let known = all()?;
    for example in &args.examples {
        ensure!(known.contains(example), "there is no example {example}");
    }
    let names = if args.interpreters.is_empty() {
        INTERPRETERS.map(str::to_owned).to_vec()
    } else {
        args.interpreters.clone()
    };
    let mut runs = Vec::new();
    for name in names {
        match Built::new(&name) {
            Ok(built) => {
                runs.extend(THREADS.map(|threads| run_with(&built, threads, &args)));
            }
            Err(error) => {
                eprintln!("{error:#}");
                runs.push(Run {
                    interpreter: name,
                    version: String::new(),
                    threads: 0,
                    time: Duration::ZERO,
                    result: Err(error),
                });
            }
        }
    }
    print!("{}", report(&runs));
    let wrong = runs.iter().filter(|run| !run.succeeded()).count();
    ensure!(wrong == 0, "{wrong} of {} runs failed", runs.len());
    let ran: usize = runs
        .iter()
        .flat_map(|run| &run.result)
        .map(Summary::ran)
        .sum();
    ensure!(ran > 0, "no test was run: does the filter match one?");
    Ok(())
}

fn run_with(built: &Built, threads: usize, args: &Args) -> Run {
    let Interpreter { name, version, .. } = &built.interpreter;
    eprintln!("\n=== {name}, threads: {threads} ===");
    let start = Instant::now();
    let result = pytest(built, threads, args);
    if let Err(error) = &result {
        eprintln!("{error:#}");
    }
    Run {
        interpreter: name.clone(),
        version: version.clone(),
        threads,
        time: start.elapsed(),
        result,
    }
}

/// Runs pytest. A test that fails is no error; pytest that does not come to an end is.
fn pytest(built: &Built, threads: usize, args: &Args) -> anyhow::Result<Summary> {
    let python = &built.python;
    let shell = Shell::new()?;
    shell.change_dir(folder());
    let summary = tempfile::NamedTempFile::new()?;
    // Tests that start threads of their own run once.
    let shared = (threads > 1).then_some(["-m", "not parallel_threads"]);
    let threads = threads.to_string();
    cmd!(
        shell,
        "{python} -B -X faulthandler -m pytest -q -p no:cacheprovider --color=no -rfE"
    )
    .args(["--parallel-threads", &threads])
    .args(shared.iter().flatten())
    .args(&args.examples)
    .args(&args.pytest)
    .env("PYTHONPATH", python_path(built)?)
    .env("PYO3_SYNC_SUMMARY", summary.path())
    .env_remove("PYTEST_ADDOPTS")
    .env("RUST_BACKTRACE", "0")
    .quiet()
    .ignore_status()
    .run()?;
    let summary = read(summary.path())?;
    ensure!(
        summary.ran() > 0 || !args.pytest.is_empty(),
        "no test was run"
    );
    Ok(summary)
}

/// Returns the module path: the folders of the modules and of the helpers of the tests.
fn python_path(built: &Built) -> anyhow::Result<std::ffi::OsString> {
    Ok(std::env::join_paths([&built.modules, &folder()])?)
}

fn read(summary: &Path) -> anyhow::Result<Summary> {
    let text = fs::read_to_string(summary)?;
    ensure!(!text.is_empty(), "pytest did not end");
    Ok(serde_json::from_str(&text)?)
}

impl Run {
    fn succeeded(&self) -> bool {
        self.result
            .as_ref()
            .is_ok_and(|summary| summary.failed.is_empty())
    }

    fn title(&self) -> String {
        match self.threads {
            0 => self.interpreter.clone(),
            1 => format!("{}, 1 thread", self.interpreter),
            threads => format!("{}, {threads} threads", self.interpreter),
        }
    }
}

/// Returns a table, the failures, and lines with counts in the form of `cargo test`.
fn report(runs: &[Run]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "interpreter",
        "version",
        "threads",
        "passed",
        "failed",
        "skipped",
        "time",
    ]);
    let (mut failed, mut counts) = (String::new(), String::new());
    for run in runs {
        let title = run.title();
        let (verdict, passed, wrong, skipped) = match &run.result {
            Ok(summary) => {
                table.add_row([
                    run.interpreter.clone(),
                    run.version.clone(),
                    run.threads.to_string(),
                    summary.passed.to_string(),
                    summary.failed.len().to_string(),
                    summary.skipped.to_string(),
                    format!("{:.1} s", run.time.as_secs_f64()),
                ]);
                for test in &summary.failed {
                    failed += &format!("failed: [{title}] {test}\n");
                }
                let verdict = if run.succeeded() { "ok" } else { "FAILED" };
                let (wrong, skipped) = (summary.failed.len(), summary.skipped);
                (verdict, summary.passed, wrong, skipped)
            }
            Err(error) => {
                table.add_row([run.interpreter.as_str(), "did not run"]);
                failed += &format!("did not run: [{title}] {error:#}\n");
                ("FAILED", 0, 1, 0)
            }
        };
        counts += &format!(
            "test result: {verdict}. {passed} passed; {wrong} failed; {skipped} ignored; \
             [{title}]\n"
        );
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("\n{table}\n\n{failed}{counts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(threads: usize, result: anyhow::Result<Summary>) -> Run {
        Run {
            interpreter: "3.14t".to_owned(),
            version: "3.14.2".to_owned(),
            threads,
            time: Duration::from_millis(1500),
            result,
        }
    }

    #[test]
    fn what_failed_and_what_did_not_run_count_as_failures() {
        let ran = Summary {
            passed: 7,
            failed: vec!["counter/test_counter.py::test_alone".to_owned()],
            skipped: 2,
        };
        let runs = [run(8, Ok(ran)), run(0, Err(anyhow::anyhow!("no uv")))];
        let report = report(&runs);
        for line in [
            "failed: [3.14t, 8 threads] counter/test_counter.py::test_alone",
            "did not run: [3.14t] no uv",
            "test result: FAILED. 7 passed; 1 failed; 2 ignored; [3.14t, 8 threads]",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; [3.14t]",
        ] {
            assert!(report.lines().any(|other| other == line), "{report}");
        }
        assert!(runs.iter().all(|run| !run.succeeded()));
    }

    #[test]
    fn every_example_is_whole() {
        assert!(all().unwrap().contains(&"counter".to_owned()));
    }
}
