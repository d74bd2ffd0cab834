//! The table of results, and the notes below it.

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::{Row, Tried, Tries, Try, probe, sources, suite};

pub(super) fn report(rows: &[Row], broken: bool) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(if broken {
        vec![
            "port",
            "Python",
            "threads",
            "suite, broken",
            "probes, broken",
        ]
    } else {
        vec![
            "port",
            "Python",
            "threads",
            "suite before",
            "after",
            "probes before",
            "after",
            "lines changed",
        ]
    });
    let mut notes = Vec::new();
    for row in rows {
        let mut cells = vec![row.port.name.to_owned(), python(row), row.threads.clone()];
        match &row.tries {
            Err(error) => {
                cells.push("did not run".to_owned());
                notes.push(format!(
                    "[{}, {}] {error:#}",
                    row.port.name, row.interpreter
                ));
            }
            Ok(Tries::Broken(broken)) => {
                cells.extend([suite_cell(broken), probes_cell(broken)]);
                note(row, "broken", broken, &mut notes);
            }
            Ok(Tries::Ported { before, after }) => {
                cells.extend([suite_cell(before), suite_cell(after)]);
                cells.extend([probes_cell(before), probes_cell(after)]);
                cells.push(sources::lines(row.port.changes).to_string());
                note(row, "before", before, &mut notes);
                note(row, "after", after, &mut notes);
            }
        }
        table.add_row(cells);
    }
    let mut report = format!("\n{table}\n\n");
    for note in notes {
        report += &format!("{note}\n");
    }
    report
}

fn python(row: &Row) -> String {
    let kind = if row.interpreter.ends_with('t') {
        "t"
    } else {
        ""
    };
    format!("{}{kind}", row.version)
}

fn suite_cell(tried: &Try) -> String {
    match tried {
        Err(_) => "not built".to_owned(),
        Ok(Tried { suite: Err(_), .. }) => "not run".to_owned(),
        Ok(Tried {
            suite: Ok(suite), ..
        }) => suite_text(suite),
    }
}

fn suite_text(suite: &suite::Outcome) -> String {
    let mut text = format!("{} passed", suite.passed);
    for (count, what) in [
        (suite.failed.len(), "failed"),
        (suite.skipped, "skipped"),
        (suite.left_out, "left out"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    match (suite.hung, suite.passed) {
        (false, _) => text,
        (true, 0) => "hung".to_owned(),
        (true, _) => format!("{text}, hung"),
    }
}

fn probes_cell(tried: &Try) -> String {
    let Ok(Tried { probes, .. }) = tried else {
        return "not built".to_owned();
    };
    let (hung, errors, all) = (probes.hung, probes.errors.len(), probe::TIMES);
    match (hung, errors) {
        (0, 0) => format!("{all} of {all} good"),
        (_, 0) => format!("{hung} of {all} hung"),
        (0, _) => format!("{errors} of {all} failed"),
        _ => format!("{hung} of {all} hung, {errors} failed"),
    }
}

/// Adds the reasons for missing results, and the first message of each failure.
fn note(row: &Row, shape: &str, tried: &Try, notes: &mut Vec<String>) {
    let title = format!("[{}, {}, {shape}]", row.port.name, row.interpreter);
    let tried = match tried {
        Ok(tried) => tried,
        Err(reason) => return notes.push(format!("{title} not built: {reason}")),
    };
    match &tried.suite {
        Err(reason) => notes.push(format!("{title} suite not run: {reason}")),
        Ok(suite) => notes.extend(
            suite
                .failed
                .iter()
                .map(|test| format!("{title} failed: {test}")),
        ),
    }
    if let Some(error) = tried.probes.errors.first() {
        notes.push(format!("{title} a probe {error}"));
    }
    // With the broken crate, hangs are expected.
    if let Some(stacks) = tried.probes.stacks.as_ref().filter(|_| shape != "broken") {
        notes.push(format!("{title} a probe hung:\n{}", stacks.trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_say_what_came_of_it() {
        let suite = suite::Outcome {
            passed: 40,
            failed: vec!["a".to_owned()],
            skipped: 0,
            left_out: 3,
            hung: false,
        };
        let probes = probe::Outcome {
            hung: 19,
            errors: vec!["ended with code 1: x".to_owned()],
            stacks: None,
        };
        let tried = Ok(Tried {
            suite: Ok(suite),
            probes,
        });
        assert_eq!(suite_cell(&tried), "40 passed, 1 failed, 3 left out");
        assert_eq!(probes_cell(&tried), "19 of 20 hung, 1 failed");
        assert_eq!(suite_cell(&Err("no GIL")), "not built");
    }
}
