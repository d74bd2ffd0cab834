//! `cargo corpus`: precision and recall of the checker on published extensions.
//!
//! Each file `cargo-pyo3-sync/corpus/NAME.toml` is about one package. It names versions before and
//! after a port to free-threaded Python, or versions without one, the [changes](labels::Change) of
//! the ports, and [verdicts](labels::Label) on the findings, written by reviewers. The
//! sources are fetched by name and version into `target/corpus`; none of them are committed.
//!
//! The program fails if a finding has no label, or if a figure is below its [limit](report).
//! `--write` puts the tables into `cargo-pyo3-sync/corpus/README.md`.

mod labels;
mod report;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use pythons::{build, published};
use serde::Deserialize;

use labels::{Package, Verdict};

/// Measure the checker on published extensions, against labels made by hand
#[derive(Parser)]
#[command(bin_name = "cargo corpus")]
struct Args {
    /// Put the tables into README.md of the corpus
    #[arg(long, conflicts_with = "packages")]
    write: bool,

    /// Print the findings of one kind, or the changes that no finding reports
    #[arg(long, value_name = "WHICH")]
    list: Option<Which>,

    /// Only this package; may be repeated
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    True,
    False,
    Unlabelled,
    /// Labeled as true, and no longer found
    Lost,
    /// Changes of the ports that no finding reports
    Missed,
}

/// For changes that no rule is about.
const NO_RULE: &str = "no rule";

/// A finding of the checker.
#[derive(Debug, Deserialize)]
struct Finding {
    rule: String,
    path: PathBuf,
    line: usize,
    message: String,
    /// Other places that its report shows.
    related: Vec<Place>,
}

#[derive(Debug, Deserialize)]
struct Place {
    path: PathBuf,
    line: usize,
}

/// The results of one rule in one package.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    right: usize,
    wrong: usize,
    unlabelled: usize,
    /// Labeled as true, and no longer found.
    lost: usize,
    /// Changes of the ports that the rule is about.
    changes: usize,
    told: usize,
}

/// The results of one package, by rule.
struct Outcome {
    package: Package,
    lines: usize,
    counts: BTreeMap<String, Counts>,
}

fn main() -> ExitCode {
    pythons::exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let checker = build_checker()?;
    let packages = Package::all(&folder())?;
    for name in &args.packages {
        ensure!(
            packages.iter().any(|package| package.name == *name),
            "there is no package {name} in the corpus"
        );
    }
    let mut outcomes = Vec::new();
    for package in packages {
        if args.packages.is_empty() || args.packages.contains(&package.name) {
            outcomes.push(Outcome::new(package, &checker, args.list)?);
        }
    }
    let tables = report::tables(&outcomes);
    println!("{tables}");
    if args.write {
        report::write(&folder().join("README.md"), &tables)?;
    }
    report::complain(&outcomes)
}

fn folder() -> PathBuf {
    build::workspace().join("cargo-pyo3-sync/corpus")
}

/// Builds the checker as users install it, with optimizations.
fn build_checker() -> anyhow::Result<PathBuf> {
    let status = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "cargo-pyo3-sync",
        ])
        .current_dir(build::workspace())
        .status()?;
    ensure!(status.success(), "the checker does not build");
    let name = format!("cargo-pyo3-sync{}", std::env::consts::EXE_SUFFIX);
    Ok(build::target()?.join("release").join(name))
}

impl Outcome {
    fn new(package: Package, checker: &Path, list: Option<Which>) -> anyhow::Result<Self> {
        let (mut lines, mut counts) = (0, BTreeMap::<String, Counts>::new());
        for version in package.versions() {
            let parent = build::target()?.join("corpus");
            let sources = published::fetch(package.registry, &package.name, version, &parent)?;
            lines += lines_of_rust(&sources)?;
            let findings = check(checker, &sources)
                .with_context(|| format!("cannot check {} {version}", package.name))?;

            let show = |which, rule: &str, path: &str, line: usize, text: &str| {
                if list == Some(which) {
                    println!("{}-{version}: {rule}: {path}:{line}: {text}", package.name);
                }
            };
            for finding in &findings {
                let counts = counts.entry(finding.rule.clone()).or_default();
                let label = package.label(version, finding);
                let which = match label.map(|label| label.verdict) {
                    Some(Verdict::True) => (counts.right += 1, Which::True).1,
                    Some(Verdict::False) => (counts.wrong += 1, Which::False).1,
                    None => (counts.unlabelled += 1, Which::Unlabelled).1,
                };
                let text = label.map_or(&*finding.message, |label| &label.why);
                show(which, &finding.rule, &finding.path(), finding.line, text);
            }
            for label in package
                .labels_of(version)
                .filter(|label| label.verdict == Verdict::True)
            {
                for line in label.not_found(&findings) {
                    counts.entry(label.rule.clone()).or_default().lost += 1;
                    show(Which::Lost, &label.rule, &label.path, line, &label.why);
                }
            }
            for change in package.changes_of(version) {
                let rule = change.rule.as_deref().unwrap_or(NO_RULE);
                let counts = counts.entry(rule.to_owned()).or_default();
                counts.changes += 1;
                if findings.iter().any(|finding| change.is_told_by(finding)) {
                    counts.told += 1;
                } else {
                    show(
                        Which::Missed,
                        rule,
                        &change.path,
                        change.lines[0],
                        &change.what,
                    );
                }
            }
        }
        Ok(Outcome {
            package,
            lines,
            counts,
        })
    }
}

impl Finding {
    fn path(&self) -> String {
        with_slashes(&self.path)
    }
}

impl Place {
    fn path(&self) -> String {
        with_slashes(&self.path)
    }
}

fn with_slashes(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

/// Runs the checker. Findings are no failure.
fn check(checker: &Path, sources: &Path) -> anyhow::Result<Vec<Finding>> {
    #[derive(Deserialize)]
    struct Report {
        findings: Vec<Finding>,
    }
    let name = Path::new(sources.file_name().context("a folder has a name")?);
    let output = Command::new(checker)
        .args(["pyo3-sync", "check", "--format", "json"])
        .arg(name)
        // Paths are relative to this folder. The sources themselves may select a toolchain.
        .current_dir(sources.parent().context("it is in a folder")?)
        .output()?;
    let Ok(report) = serde_json::from_slice::<Report>(&output.stdout) else {
        bail!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let mut findings = report.findings;
    for finding in &mut findings {
        let related = finding.related.iter_mut().map(|place| &mut place.path);
        for path in std::iter::once(&mut finding.path).chain(related) {
            if let Ok(inside) = path.strip_prefix(name) {
                *path = inside.to_owned();
            }
        }
    }
    Ok(findings)
}

fn lines_of_rust(folder: &Path) -> anyhow::Result<usize> {
    let mut lines = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            lines += lines_of_rust(&entry.path())?;
        } else if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            lines += fs::read(entry.path())?
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count();
        }
    }
    Ok(lines)
}
