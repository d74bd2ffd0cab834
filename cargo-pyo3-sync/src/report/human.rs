//! The report for people, in the style of rustc's diagnostics.

use std::collections::HashMap;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::{
    check::Outcome,
    finding::{Reported, Severity},
    rules,
    source::SourceFile,
};

/// The maximum number of `Severity::Slow` findings per rule that are shown in full.
const SHOWN: usize = 3;

pub fn render(outcome: &Outcome, colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = String::new();
    for error in &outcome.errors {
        let place = if error.line == 0 {
            String::new()
        } else {
            format!(":{}:{}", error.line, error.column)
        };
        text.push_str(&format!(
            "error: cannot read {}{place}: {}\n\n",
            error.path.display(),
            error.message
        ));
    }
    let mut shown: HashMap<&str, usize> = HashMap::new();
    for finding in &outcome.findings {
        // The remaining slow findings of a rule are listed below, one line each.
        let count = shown.entry(finding.rule).or_default();
        *count += 1;
        if finding.severity == Severity::Slow && *count > SHOWN {
            continue;
        }
        let files = &outcome.project.crates[finding.crate_index].files;
        text.push_str(&renderer.render(&groups(finding, files)));
        text.push_str("\n\n");
    }
    let repeated = rules::ALL
        .iter()
        .filter(|rule| shown.get(rule.id).is_some_and(|count| *count > SHOWN));
    for rule in repeated.map(|rule| rule.id) {
        let rest: Vec<&Reported> = outcome
            .findings
            .iter()
            .filter(|finding| finding.rule == rule && finding.severity == Severity::Slow)
            .skip(SHOWN)
            .collect();
        if rest.is_empty() {
            continue;
        }
        text.push_str(&format!("{rule}: {} more like these\n", rest.len()));
        for finding in rest {
            text.push_str(&format!(
                "  --> {}:{}:{}\n",
                finding.path.display(),
                finding.line,
                finding.column
            ));
        }
        text.push('\n');
    }
    for skipped in &outcome.project.skipped {
        text.push_str(&format!("skipped {skipped}\n"));
    }
    text.push_str(&outcome.verdict.to_string());
    text
}

fn groups<'f>(finding: &'f Reported, files: &'f [SourceFile]) -> Vec<Group<'f>> {
    let file = &files[finding.file_index];
    let level = match finding.severity {
        Severity::Unsound | Severity::Deadlock => Level::ERROR,
        Severity::RuntimeError => Level::WARNING,
        Severity::Slow => Level::NOTE,
    };
    let mut snippet = Snippet::source(&file.text)
        .path(finding.path.display().to_string())
        .annotation(
            AnnotationKind::Primary
                .span(finding.range.clone())
                .label(&finding.label),
        );
    for related in finding
        .related
        .iter()
        .filter(|related| related.file_index == finding.file_index)
    {
        snippet = snippet.annotation(
            AnnotationKind::Context
                .span(related.range.clone())
                .label(&related.label),
        );
    }
    let mut group = level
        .with_name(finding.severity.name())
        .primary_title(&finding.message)
        .id(finding.rule)
        .element(snippet);
    for related in finding
        .related
        .iter()
        .filter(|related| related.file_index != finding.file_index)
    {
        let other = &files[related.file_index];
        group = group.element(
            Snippet::source(&other.text)
                .path(related.path.display().to_string())
                .annotation(
                    AnnotationKind::Context
                        .span(related.range.clone())
                        .label(&related.label),
                ),
        );
    }
    for note in &finding.notes {
        group = group.element(Level::NOTE.message(note));
    }
    if !finding.help.is_empty() {
        group = group.element(Level::HELP.message(&finding.help));
    }
    group = group.element(Level::NOTE.with_name("guide").message(&finding.docs));
    vec![group]
}
