//! Checks a path and returns the report.

use std::path::Path;

use anyhow::{Context as _, Result};
use semver::Version;

use crate::{
    context::Context,
    finding::{Finding, Place, Related, Reported, Severity},
    rules::{self, Rule},
    source::{SourceError, SourceFile},
    verdict::Verdict,
    workspace::{self, Crate, Project},
};

/// Command-line options that override the configuration.
#[derive(Debug, Default, Clone)]
pub struct Options {
    pub allow: Vec<String>,
    pub enable: Vec<String>,
    pub enable_all: bool,
    /// If not empty, only these rules are applied.
    pub only: Vec<String>,
    /// The version of PyO3, for sources without a Cargo.toml that states it.
    pub pyo3: Option<Version>,
}

pub struct Outcome {
    pub project: Project,
    pub findings: Vec<Reported>,
    pub errors: Vec<SourceError>,
    /// The number of findings that comments in the source allow.
    pub allowed: usize,
    pub verdict: Verdict,
}

pub fn run(path: &Path, options: &Options) -> Result<Outcome> {
    let mut project = workspace::load(path)?;
    for source in &mut project.crates {
        for name in source.config.rule_names() {
            rules::find(name).context("in the table `metadata.pyo3-sync` of Cargo.toml")?;
        }
        source.pyo3 = source.pyo3.take().or_else(|| options.pyo3.clone());
    }
    let mut findings = Vec::new();
    let mut errors = Vec::new();
    let mut allowed = 0;
    let mut modules = Vec::new();
    for (number, source) in project.crates.iter().enumerate() {
        errors.extend(source.errors.iter().cloned());
        let context = Context::new(source);
        modules.extend(
            context
                .index
                .modules
                .iter()
                .filter(|module| !module.submodule)
                .map(|module| module.gil_used),
        );
        for rule in rules::ALL {
            if !is_on(rule, options, source) {
                continue;
            }
            let mut found = Vec::new();
            (rule.check)(&context, &mut found);
            for finding in found {
                let (reported, is_allowed) = report(rule, finding, source, number);
                if is_allowed {
                    allowed += 1;
                } else {
                    findings.push(reported);
                }
            }
        }
    }
    findings.sort_by(|one, other| {
        (&one.path, one.line, one.column, one.rule).cmp(&(
            &other.path,
            other.line,
            other.column,
            other.rule,
        ))
    });
    // A file may belong to several targets of a package.
    findings.dedup_by(|one, other| {
        (&one.path, one.line, one.column, one.rule)
            == (&other.path, other.line, other.column, other.rule)
    });
    errors.dedup_by(|one, other| one.path == other.path && one.line == other.line);
    let verdict = Verdict::new(&project, &findings, &errors, &modules);
    Ok(Outcome {
        project,
        findings,
        errors,
        allowed,
        verdict,
    })
}

fn is_on(rule: &Rule, options: &Options, source: &Crate) -> bool {
    let named = |list: &[String]| list.iter().any(|name| name == rule.id);
    if !options.only.is_empty() {
        return named(&options.only);
    }
    if named(&options.allow) {
        return false;
    }
    let off_in_config = named(&source.config.allow);
    source.config.is_on(rule.id, rule.on_by_default)
        || ((options.enable_all || named(&options.enable)) && !off_in_config)
}

fn report(
    rule: &'static Rule,
    finding: Finding,
    source: &Crate,
    crate_index: usize,
) -> (Reported, bool) {
    let (file, range) = locate(&source.files, finding.place);
    let (line, column) = file.position(range.start);
    let (end_line, end_column) = file.position(range.end);
    let related = finding
        .related
        .into_iter()
        .map(|(place, label)| {
            let (file, range) = locate(&source.files, place);
            let (line, column) = file.position(range.start);
            Related {
                path: file.path.clone(),
                line,
                column,
                label,
                range,
                file_index: place.file,
            }
        })
        .collect();
    let allowed = file.allow(rule.id, line).is_some();
    let reported = Reported {
        rule: rule.id,
        severity: rule.severity,
        path: file.path.clone(),
        line,
        column,
        end_line,
        end_column,
        message: finding.message,
        label: finding.label,
        notes: finding.notes,
        help: finding.help,
        docs: rule.guide.to_owned(),
        related,
        range,
        crate_index,
        file_index: finding.place.file,
    };
    (reported, allowed)
}

fn locate(files: &[SourceFile], place: Place) -> (&SourceFile, std::ops::Range<usize>) {
    let file = &files[place.file];
    (file, file.range(place.span))
}

impl Outcome {
    /// Returns `true` if a finding fails the check.
    pub fn fails(&self, threshold: Option<Severity>) -> bool {
        self.findings.iter().any(|finding| {
            let config = &self.project.crates[finding.crate_index].config;
            let threshold = threshold.or(config.fail_on).unwrap_or(Severity::Slow);
            finding.severity >= threshold || config.deny.iter().any(|name| name == finding.rule)
        })
    }
}
