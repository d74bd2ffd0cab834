//! `--format json`: one object with `findings`, `errors` and `verdict`.

use serde::Serialize;

use crate::{check::Outcome, finding::Reported, verdict::Verdict};

#[derive(Serialize)]
struct Report<'o> {
    version: u32,
    findings: &'o [Reported],
    errors: Vec<ErrorReport>,
    skipped: &'o [String],
    allowed: usize,
    pyo3: Vec<CrateReport>,
    verdict: &'o Verdict,
}

#[derive(Serialize)]
struct ErrorReport {
    path: String,
    line: usize,
    column: usize,
    message: String,
}

#[derive(Serialize)]
struct CrateReport {
    name: String,
    files: usize,
    pyo3: Option<String>,
}

pub fn render(outcome: &Outcome) -> serde_json::Result<String> {
    let report = Report {
        version: 1,
        findings: &outcome.findings,
        errors: outcome
            .errors
            .iter()
            .map(|error| ErrorReport {
                path: error.path.display().to_string(),
                line: error.line,
                column: error.column,
                message: error.message.clone(),
            })
            .collect(),
        skipped: &outcome.project.skipped,
        allowed: outcome.allowed,
        pyo3: outcome
            .project
            .crates
            .iter()
            .map(|source| CrateReport {
                name: source.name.clone(),
                files: source.files.len(),
                pyo3: source.pyo3.as_ref().map(ToString::to_string),
            })
            .collect(),
        verdict: &outcome.verdict,
    };
    serde_json::to_string_pretty(&report)
}
