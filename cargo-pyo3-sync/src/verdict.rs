//! The summary of a report: a verdict, counts, and the first steps.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    finding::{Reported, Severity},
    rules,
    source::SourceError,
    workspace::Project,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// No findings, and all files were readable.
    Ready,
    /// No findings that are unsound or deadlock.
    ReadyAfterThese,
    /// Findings that are unsound or deadlock.
    NotYet,
    /// No source was checked.
    Unknown,
}

#[derive(Debug, Serialize)]
pub struct Verdict {
    pub answer: Answer,
    pub files: usize,
    pub lines: usize,
    pub unreadable: usize,
    /// The number of findings of each severity.
    pub counts: BTreeMap<String, usize>,
    /// The number of findings of each rule.
    pub rules: BTreeMap<String, usize>,
    /// The first steps, at most three.
    pub first: Vec<Step>,
    /// The `gil_used` argument of each module, if present.
    pub declared: Vec<Option<bool>>,
}

#[derive(Debug, Serialize)]
pub struct Step {
    pub rule: &'static str,
    pub severity: Severity,
    pub count: usize,
    pub path: String,
    pub line: usize,
    pub text: String,
    pub docs: String,
}

impl Verdict {
    pub fn new(
        project: &Project,
        findings: &[Reported],
        errors: &[SourceError],
        declared: &[Option<bool>],
    ) -> Self {
        let files = project.crates.iter().map(|source| source.files.len()).sum();
        let lines = project
            .crates
            .iter()
            .flat_map(|source| &source.files)
            .map(|file| file.text.lines().count())
            .sum();
        let mut counts = BTreeMap::new();
        let mut by_rule = BTreeMap::new();
        for finding in findings {
            *counts
                .entry(finding.severity.name().to_owned())
                .or_insert(0) += 1;
            *by_rule.entry(finding.rule.to_owned()).or_insert(0) += 1;
        }
        let worst = findings.iter().map(|finding| finding.severity).max();
        let answer = match worst {
            _ if files == 0 => Answer::Unknown,
            None if errors.is_empty() => Answer::Ready,
            Some(Severity::Unsound | Severity::Deadlock) => Answer::NotYet,
            _ => Answer::ReadyAfterThese,
        };
        Verdict {
            answer,
            files,
            lines,
            unreadable: errors.len(),
            counts,
            first: steps(findings),
            rules: by_rule,
            declared: declared.to_vec(),
        }
    }
}

/// Returns one step per rule, by descending severity and then count.
fn steps(findings: &[Reported]) -> Vec<Step> {
    let mut steps: Vec<Step> = rules::ALL
        .iter()
        .filter_map(|rule| {
            let mut of_rule = findings.iter().filter(|finding| finding.rule == rule.id);
            let first = of_rule.next()?;
            Some(Step {
                rule: rule.id,
                severity: rule.severity,
                count: 1 + of_rule.count(),
                path: first.path.display().to_string(),
                line: first.line,
                text: first_clause(&first.help).to_owned(),
                docs: rule.guide.to_owned(),
            })
        })
        .collect();
    steps.sort_by_key(|step| {
        (
            std::cmp::Reverse(step.severity),
            std::cmp::Reverse(step.count),
        )
    });
    steps.truncate(3);
    steps
}

/// Returns the text up to the first semicolon, full stop or colon.
fn first_clause(text: &str) -> &str {
    let end = [";", ". ", ": "]
        .iter()
        .filter_map(|end| text.find(end))
        .min();
    end.map_or(text, |end| &text[..end])
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.counts.values().sum();
        match self.answer {
            Answer::Unknown => writeln!(
                formatter,
                "verdict: nothing to look at: no source that uses PyO3 was found"
            )?,
            Answer::Ready => writeln!(
                formatter,
                "verdict: ready: nothing here is known to rely on the GIL"
            )?,
            Answer::ReadyAfterThese => writeln!(
                formatter,
                "verdict: ready after these: nothing that is unsound or hangs"
            )?,
            Answer::NotYet => writeln!(formatter, "verdict: do not set `gil_used = false` yet")?,
        }
        if self.answer == Answer::NotYet && self.declared.contains(&Some(false)) {
            writeln!(
                formatter,
                "  (and it is set: a module declares `gil_used = false`)"
            )?;
        }
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(
            formatter,
            "  {} lines in {} file{}",
            self.lines,
            self.files,
            plural(self.files)
        )?;
        if self.unreadable > 0 {
            write!(formatter, ", {} could not be read", self.unreadable)?;
        }
        if total > 0 {
            write!(formatter, "; {total} finding{}:", plural(total))?;
            let mut comma = "";
            for severity in Severity::ALL {
                if let Some(count) = self.counts.get(severity.name()) {
                    write!(formatter, "{comma} {count} {severity}")?;
                    comma = ",";
                }
            }
        }
        writeln!(formatter)?;
        if !self.first.is_empty() {
            writeln!(formatter, "  first:")?;
        }
        for (number, step) in self.first.iter().enumerate() {
            let times = if step.count > 1 {
                format!(" and {} more", step.count - 1)
            } else {
                String::new()
            };
            writeln!(
                formatter,
                "  {}. {} at {}:{}{times}: {}",
                number + 1,
                step.rule,
                step.path,
                step.line,
                step.text
            )?;
        }
        Ok(())
    }
}
