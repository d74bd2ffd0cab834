//! `--format sarif`: SARIF 2.1.0, which code-scanning services read.

use serde_json::{Value, json};

use crate::{
    check::Outcome,
    finding::{Reported, Severity},
    rules,
};

pub fn render(outcome: &Outcome) -> serde_json::Result<String> {
    let results: Vec<Value> = outcome.findings.iter().map(result).collect();
    let notifications: Vec<Value> = outcome
        .errors
        .iter()
        .map(|error| {
            json!({
                "level": "error",
                "message": { "text": error.message },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": uri(&error.path) },
                    "region": {
                        "startLine": error.line.max(1),
                        "startColumn": error.column.max(1),
                    },
                } }],
            })
        })
        .collect();
    let rules: Vec<Value> = rules::ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": { "text": rule.title },
                "help": { "text": rule.page, "markdown": rule.page },
                "defaultConfiguration": {
                    "level": level(rule.severity),
                    "enabled": rule.on_by_default,
                },
                "properties": { "consequence": rule.severity.name() },
            })
        })
        .collect();
    serde_json::to_string_pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "cargo-pyo3-sync",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "invocations": [{
                "executionSuccessful": outcome.errors.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn result(finding: &Reported) -> Value {
    let index = rules::ALL.iter().position(|rule| rule.id == finding.rule);
    json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": { "text": format!(
            "{}\n{}\nInstead: {}",
            finding.message,
            finding.notes.join("\n"),
            finding.help,
        ) },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": uri(&finding.path) },
            "region": {
                "startLine": finding.line,
                "startColumn": finding.column,
                "endLine": finding.end_line,
                "endColumn": finding.end_column,
            },
        } }],
        "relatedLocations": finding.related.iter().map(|related| json!({
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&related.path) },
                "region": { "startLine": related.line, "startColumn": related.column },
            },
            "message": { "text": related.label },
        })).collect::<Vec<_>>(),
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Unsound | Severity::Deadlock => "error",
        Severity::RuntimeError => "warning",
        Severity::Slow => "note",
    }
}

fn uri(path: &std::path::Path) -> String {
    path.display().to_string().replace('\\', "/")
}
