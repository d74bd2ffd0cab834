//! `cargo xtask test --matrix`: all supported builds in turn, and one table of results.
//!
//! The others run even if a cell fails. The table is also written to `target/matrix.md` after each
//! cell, so that an interrupted run leaves its results.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use pythons::build;
use suite_runner::{Arguments, Launcher, Summary};

use super::{
    Args, Build,
    cells::{self, Cell, Suite, What},
    checks::Checked,
    workspace::Workspace,
};

/// One line of the table.
struct Row {
    cell: String,
    python: String,
    build: Duration,
    outcome: Outcome,
}

enum Outcome {
    Ran(Summary),
    Compiled,
    Failed(String),
    NotRun(String),
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let arguments = args.for_the_runner();
    let file = build::target()?.join("matrix.md");
    let start = Instant::now();
    let (chosen, left_out): (Vec<_>, Vec<_>) = cells::all()
        .into_iter()
        .partition(|cell| is_chosen(cell, args));
    ensure!(!chosen.is_empty(), "no cell has such a name");
    let mut rows = Vec::new();
    for cell in &chosen {
        eprintln!("\n=== {} ===", cell.label());
        rows.extend(run_cell(cell, &arguments));
        fs::write(&file, report(&rows, &left_out, start.elapsed()))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    print!("\n{}", report(&rows, &left_out, start.elapsed()));
    let failed = rows.iter().filter(|row| row.has_failed()).count();
    ensure!(failed == 0, "{failed} of {} did not pass", rows.len());
    Ok(())
}

fn is_chosen(cell: &Cell, args: &Args) -> bool {
    let is_named = |part: &String| cell.label().contains(part);
    (cell.is_fast || !args.fast) && (args.cells.is_empty() || args.cells.iter().any(is_named))
}

fn run_cell(cell: &Cell, arguments: &Arguments) -> Vec<Row> {
    match &cell.what {
        What::Suite(suite) => run_suite(cell, suite, arguments),
        What::Check(check) => {
            let start = Instant::now();
            let outcome = match check() {
                Ok(Checked::Compiles) => Outcome::Compiled,
                Ok(Checked::Skipped(reason)) => Outcome::NotRun(reason),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            vec![Row {
                cell: cell.name.clone(),
                python: String::new(),
                build: start.elapsed(),
                outcome,
            }]
        }
    }
}

fn run_suite(cell: &Cell, suite: &Suite, arguments: &Arguments) -> Vec<Row> {
    let start = Instant::now();
    let module = build_suite(suite);
    let mut build = start.elapsed();
    let row = |name: &String| {
        let outcome = match &module {
            Ok(module) => run_in(cell, name, module, suite, arguments),
            Err(outcome) => outcome.clone_reason(),
        };
        Row {
            cell: cell.name.clone(),
            python: name.clone(),
            // Built once for all.
            build: std::mem::take(&mut build),
            outcome,
        }
    };
    suite.interpreters.iter().map(row).collect()
}

/// Returns the folder of the module.
fn build_suite(suite: &Suite) -> Result<std::path::PathBuf, Outcome> {
    let builder = find(&suite.interpreters[0], suite)?;
    let build = || {
        Build {
            workspace: &Workspace::new(suite.dependencies)?,
            release: suite.release,
            features: &suite.features,
            rust_flags: suite.rust_flags,
        }
        .for_interpreter(&builder)
    };
    build().map_err(|error| Outcome::Failed(format!("{error:#}")))
}

fn find(name: &str, suite: &Suite) -> Result<pythons::Interpreter, Outcome> {
    if suite.is_optional {
        let found = pythons::look_for(name);
        return found.map_err(|_| Outcome::NotRun("not on this machine".to_owned()));
    }
    let missing = || format!("there is no Python {name}");
    pythons::find(name)
        .with_context(missing)
        .map_err(|error| Outcome::Failed(format!("{error:#}")))
}

fn run_in(cell: &Cell, name: &str, module: &Path, suite: &Suite, arguments: &Arguments) -> Outcome {
    let interpreter = match find(name, suite) {
        Ok(interpreter) => interpreter,
        Err(outcome) => return outcome,
    };
    let label = format!("{name} {}", cell.name);
    let launcher = Launcher::suite(&label, &interpreter.path, module);
    match suite_runner::run(&launcher, arguments) {
        Ok(summary) => Outcome::Ran(summary),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

impl Outcome {
    /// Copies the reason why the module was not built, for each of its interpreters.
    fn clone_reason(&self) -> Self {
        match self {
            Self::NotRun(reason) => Self::NotRun(reason.clone()),
            Self::Failed(reason) => Self::Failed(reason.clone()),
            Self::Ran(_) | Self::Compiled => unreachable!("no reason not to build"),
        }
    }
}

impl Row {
    fn has_failed(&self) -> bool {
        match &self.outcome {
            // No test at all: the filter matches none.
            Outcome::Ran(summary) => !summary.failed.is_empty() || summary.passed == 0,
            Outcome::Failed(_) => true,
            Outcome::Compiled | Outcome::NotRun(_) => false,
        }
    }

    fn cells(&self) -> [String; 7] {
        let none = String::new;
        let [python, passed, failed, ignored, time] = match &self.outcome {
            Outcome::Ran(summary) => [
                format!("{} ({})", self.python, summary.python),
                summary.passed.to_string(),
                summary.failed.len().to_string(),
                summary.ignored.len().to_string(),
                seconds(summary.elapsed),
            ],
            Outcome::Compiled => [none(), "compiles".to_owned(), none(), none(), none()],
            Outcome::Failed(_) => [
                self.python.clone(),
                none(),
                "failed".to_owned(),
                none(),
                none(),
            ],
            Outcome::NotRun(_) => [
                self.python.clone(),
                "not run".to_owned(),
                none(),
                none(),
                none(),
            ],
        };
        [
            self.cell.clone(),
            python,
            passed,
            failed,
            ignored,
            seconds(self.build),
            time,
        ]
    }

    /// Returns the notes below the table.
    fn remarks(&self) -> Vec<String> {
        let about = format!("[{} {}]", self.cell, self.python).replace(" ]", "]");
        match &self.outcome {
            Outcome::Ran(summary) => {
                let failed = summary.failed.iter();
                failed
                    .map(|report| format!("{about} {}: {}", report.test, report.reason))
                    .collect()
            }
            Outcome::Failed(reason) => vec![format!("{about} failed: {reason}")],
            Outcome::NotRun(reason) => vec![format!("{about} not run: {reason}")],
            Outcome::Compiled => Vec::new(),
        }
    }
}

fn report(rows: &[Row], left_out: &[Cell], time: Duration) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "build",
        "interpreter",
        "passed",
        "failed",
        "ignored",
        "to build",
        "to run",
    ]);
    table.add_rows(rows.iter().map(Row::cells));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n\n{} in all.\n", seconds(time));
    for remark in rows.iter().flat_map(Row::remarks) {
        text += &format!("- {remark}\n");
    }
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(Cell::label).collect();
        text += &format!("\nLeft out in this run: {}.\n", names.join("; "));
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome) -> Row {
        Row {
            cell: "release".to_owned(),
            python: "3.14t".to_owned(),
            build: Duration::from_secs(20),
            outcome,
        }
    }

    fn summary(passed: u64) -> Summary {
        Summary {
            python: "3.14.2".to_owned(),
            free_threaded: true,
            passed,
            failed: Vec::new(),
            ignored: Vec::new(),
            elapsed: Duration::from_secs(40),
        }
    }

    #[test]
    fn what_did_not_run_is_in_the_table_with_the_reason() {
        let rows = [
            row(Outcome::NotRun("no moon".to_owned())),
            row(Outcome::Failed("no sun".to_owned())),
        ];
        let report = report(&rows, &[], Duration::ZERO);
        assert!(
            report.contains("- [release 3.14t] not run: no moon\n"),
            "{report}"
        );
        assert!(
            report.contains("- [release 3.14t] failed: no sun\n"),
            "{report}"
        );
        assert!(!rows[0].has_failed() && rows[1].has_failed());
    }

    #[test]
    fn a_run_without_tests_has_failed() {
        assert!(row(Outcome::Ran(summary(0))).has_failed());
        assert!(!row(Outcome::Ran(summary(7))).has_failed());
    }

    #[test]
    fn every_row_has_its_times() {
        let report = report(
            &[row(Outcome::Ran(summary(7)))],
            &[],
            Duration::from_secs(61),
        );
        assert!(
            report.contains("20 s") && report.contains("40 s"),
            "{report}"
        );
        assert!(report.contains("61 s in all"), "{report}");
    }
}
