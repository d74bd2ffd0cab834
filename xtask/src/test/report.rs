//! The report: one table, then the tests that it counts.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use suite_runner::{Report, Summary};

use super::Run;

pub(super) fn report(runs: &[Run]) -> String {
    let ignored = reports(runs, |summary| &summary.ignored);
    let failed = reports(runs, |summary| &summary.failed);
    let mut text = format!("\n{}\n", table(runs));
    text += &section("ignored", &ignored);
    text += &section("failed", &failed);
    text += &section("did not run", &not_run(runs));
    text
}

fn table(runs: &[Run]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "interpreter",
        "version",
        "build",
        "passed",
        "failed",
        "ignored",
        "time",
    ]);
    for run in runs {
        match &run.result {
            Ok(summary) => table.add_row(row(&run.interpreter, summary)),
            Err(_) => table.add_row([run.interpreter.as_str(), "did not run"]),
        };
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(interpreter: &str, summary: &Summary) -> [String; 7] {
    [
        interpreter.to_owned(),
        summary.python.clone(),
        if summary.free_threaded {
            "free-threaded"
        } else {
            "GIL"
        }
        .to_owned(),
        summary.passed.to_string(),
        summary.failed.len().to_string(),
        summary.ignored.len().to_string(),
        format!("{:.1} s", summary.elapsed.as_secs_f64()),
    ]
}

/// Interpreters by a message that they have in common.
type Grouped = BTreeMap<String, Vec<String>>;

fn reports(runs: &[Run], of: impl Fn(&Summary) -> &Vec<Report>) -> Grouped {
    let mut grouped = Grouped::new();
    for run in runs {
        for Report { test, reason } in run.result.iter().flat_map(&of) {
            let interpreters = grouped.entry(format!("{test}: {reason}")).or_default();
            interpreters.push(run.interpreter.clone());
        }
    }
    grouped
}

fn not_run(runs: &[Run]) -> Grouped {
    let mut grouped = Grouped::new();
    for run in runs {
        if let Err(error) = &run.result {
            grouped
                .entry(format!("{error:#}"))
                .or_default()
                .push(run.interpreter.clone());
        }
    }
    grouped
}

fn section(title: &str, grouped: &Grouped) -> String {
    let mut text = String::new();
    if !grouped.is_empty() {
        writeln!(text, "\n{title}:").expect("a string takes everything");
    }
    for (what, interpreters) in grouped {
        writeln!(text, "  [{}] {what}", interpreters.join(", "))
            .expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ran(interpreter: &str, failed: &[(&str, &str)], ignored: &[(&str, &str)]) -> Run {
        let reports = |reports: &[(&str, &str)]| {
            let reports = reports.iter().map(|(test, reason)| Report {
                test: test.to_string(),
                reason: reason.to_string(),
            });
            reports.collect()
        };
        Run {
            interpreter: interpreter.to_owned(),
            result: Ok(Summary {
                python: "3.14.2".to_owned(),
                free_threaded: interpreter.ends_with('t'),
                passed: 7,
                failed: reports(failed),
                ignored: reports(ignored),
                elapsed: Duration::from_millis(1250),
            }),
        }
    }

    #[test]
    fn interpreters_with_the_same_to_say_are_grouped() {
        let moon = [("mutex::howls", "no moon")];
        let report = report(&[ran("3.14", &[], &moon), ran("3.15", &[], &moon)]);
        assert!(
            report.contains("ignored:\n  [3.14, 3.15] mutex::howls: no moon\n"),
            "{report}"
        );
        assert!(!report.contains("failed:"), "{report}");
    }

    #[test]
    fn failures_and_absences_are_told_apart() {
        let absent = Run {
            interpreter: "3.15t".to_owned(),
            result: Err(anyhow::anyhow!("not found")),
        };
        let report = report(&[ran("3.14t", &[("mutex::locks", "hung")], &[]), absent]);
        assert!(
            report.contains("failed:\n  [3.14t] mutex::locks: hung\n"),
            "{report}"
        );
        assert!(
            report.contains("did not run:\n  [3.15t] not found\n"),
            "{report}"
        );
    }

    #[test]
    fn a_row_has_everything() {
        let report = report(&[ran("3.14t", &[], &[])]);
        let row = report.lines().find(|line| line.contains("3.14t")).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells,
            [
                "",
                "3.14t",
                "3.14.2",
                "free-threaded",
                "7",
                "0",
                "0",
                "1.2 s",
                ""
            ]
        );
    }
}
