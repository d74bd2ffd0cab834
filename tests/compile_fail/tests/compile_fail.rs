//! Programs that must not compile, each beside a twin that must: see `cases/`.
//!
//! A program can fail to compile for many reasons, and a test that only wants it to fail goes on passing when a renamed
//! method has become the reason. So each case
//!
//! - pins the error, in a line `//@ error: E0597`, or the message of an error that has no code (a lint's code is its name), and must have that
//!   error and no other, in one place, or in as many as a line `//@ places: 9` says: of nine methods none may be forgotten;
//! - has a twin in the same file, which differs by as little as possible and must compile: the case is what it is with
//!   `#[cfg(feature = "fail")]`, and its twin with `not(..)`.
//!
//! A case with the line `//@ python: free-threaded` is checked as for such an interpreter, which the machine need not have; all
//! others are for the machine's own. Each line `//@ says: ..` is a part of the message, where it is the message that matters.
//!
//! Which case stands for which type and bound is told by the table in `README.md`, which `table.rs` compares with the sources.
//!
//! The cases are examples of this package, and cargo checks all of them twice, once as twins and once to fail. It does so in a
//! target folder of its own: not to wait for the cargo that runs this test, nor to make it build anything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for (python, cases) in cases()? {
        let cases: Vec<Case> = cases;
        let twins = Arc::new(check(python, &cases, &["--keep-going"])?);
        let failures = Arc::new(check(
            python,
            &cases,
            &["--features", "fail", "--keep-going"],
        )?);
        trials.extend(cases.into_iter().map(|case| {
            let (twins, failures) = (Arc::clone(&twins), Arc::clone(&failures));
            Trial::test(case.name.clone(), move || case.judge(&twins, &failures))
        }));
    }
    Ok(trials)
}

/// A file in `cases/`.
struct Case {
    name: String,
    /// A code, or the message of an error that has none.
    error: String,
    /// In how many places.
    places: usize,
    /// Parts of the message.
    says: Vec<String>,
}

/// The Python that a case is checked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Python {
    Machine,
    FreeThreaded,
}

fn cases() -> anyhow::Result<BTreeMap<Python, Vec<Case>>> {
    let mut cases = BTreeMap::<_, Vec<Case>>::new();
    for entry in fs::read_dir(Path::new(PACKAGE).join("cases"))? {
        let path = entry?.path();
        let name = path.file_stem().context("a case has a name")?;
        let name = name.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let values = |key: &'static str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix("//@ "));
            lines.filter_map(move |line| line.strip_prefix(key)?.strip_prefix(": "))
        };
        let mut pinned = values("error");
        let error = pinned.next().map(str::to_owned);
        ensure!(
            pinned.next().is_none(),
            "{name} has more than one line `//@ error: ..`"
        );
        let error = error.with_context(|| format!("{name} has no line `//@ error: ..`"))?;
        let python = match values("python").next() {
            None => Python::Machine,
            Some("free-threaded") => Python::FreeThreaded,
            Some(other) => bail!("{name} is for an unknown Python `{other}`"),
        };
        let places = match values("places").next() {
            None => 1,
            Some(places) => places.parse().with_context(|| format!("{name}: places"))?,
        };
        let says = values("says").map(str::to_owned).collect();
        cases.entry(python).or_default().push(Case {
            name,
            error,
            places,
            says,
        });
    }
    for cases in cases.values_mut() {
        cases.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(cases)
}

impl Case {
    fn judge(&self, twins: &Checked, failures: &Checked) -> Result<(), Failed> {
        let Case {
            name,
            error,
            places,
            says,
        } = self;
        let twin = twins.errors(name);
        if !twin.is_empty() {
            return Err(format!("the twin does not compile:\n{}", rendered(twin)).into());
        }
        // After an error in a case cargo says nothing about it but the error.
        if !twins.compiled.contains(name) {
            return Err(format!("cargo does not know `{name}`: list it in Cargo.toml").into());
        }
        let found = failures.errors(name);
        if found.is_empty() {
            return Err(format!("compiles, and should fail with `{error}`").into());
        }
        let others: Vec<_> = found.iter().filter(|found| !found.is(error)).collect();
        if !others.is_empty() {
            return Err(
                format!("fails, but not with `{error}` alone:\n{}", rendered(found)).into(),
            );
        }
        let found_in: BTreeSet<_> = found.iter().map(Diagnostic::place).collect();
        let (number, found) = (found_in.len(), rendered(found));
        if number != *places {
            return Err(
                format!("fails in {number} places, and should in {places}:\n{found}").into(),
            );
        }
        for part in says {
            if !found.contains(part) {
                return Err(format!("does not say `{part}`:\n{found}").into());
            }
        }
        Ok(())
    }
}

/// What a run of `cargo check` said, by the name of the example.
#[derive(Default)]
struct Checked {
    compiled: BTreeSet<String>,
    errors: BTreeMap<String, Vec<Diagnostic>>,
}

impl Checked {
    fn errors(&self, case: &str) -> &[Diagnostic] {
        self.errors.get(case).map_or(&[], Vec::as_slice)
    }
}

/// One line of cargo's output; of what else it tells only the names are looked at.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Told {
    CompilerMessage {
        target: Target,
        message: Diagnostic,
    },
    CompilerArtifact {
        target: Target,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    message: String,
    code: Option<Code>,
    spans: Vec<Span>,
    rendered: String,
}

#[derive(Deserialize)]
struct Span {
    is_primary: bool,
    line_start: usize,
    column_start: usize,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

impl Diagnostic {
    /// Whether this is an error of the program, and not the count of them that closes the list.
    fn is_error(&self) -> bool {
        self.level.starts_with("error") && !self.message.starts_with("aborting due to")
    }

    /// Where it is, which for two lifetimes, or two fields, that are to blame for one thing is the same.
    fn place(&self) -> Option<(usize, usize)> {
        let span = self.spans.iter().find(|span| span.is_primary)?;
        Some((span.line_start, span.column_start))
    }

    fn is(&self, pinned: &str) -> bool {
        match &self.code {
            Some(code) => code.code == pinned,
            None => self.message == pinned,
        }
    }
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        writeln!(text, "{}", diagnostic.rendered).expect("a string takes everything");
    }
    text
}

/// What PyO3 needs to know of a Python that is not there.
const FREE_THREADED: &str = "\
implementation=CPython
version=3.14
shared=false
build_flags=Py_GIL_DISABLED
";

/// Checks the cases for one Python.
fn check(python: Python, cases: &[Case], arguments: &[&str]) -> anyhow::Result<Checked> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(PACKAGE)
        .args(["check", "--message-format", "json"])
        .args(arguments);
    match python {
        Python::Machine => {
            command
                .arg("--examples")
                .arg("--target-dir")
                .arg(folder.join("compile_fail"));
        }
        Python::FreeThreaded => {
            let configuration: PathBuf = folder.join("free_threaded.txt");
            fs::write(&configuration, FREE_THREADED)?;
            command
                .args(cases.iter().flat_map(|case| ["--example", &case.name]))
                .arg("--target-dir")
                .arg(folder.join("compile_fail_free_threaded"))
                .env("PYO3_CONFIG_FILE", configuration);
        }
    }
    let output = command.output().context("cannot start cargo")?;
    let mut checked = Checked::default();
    for line in String::from_utf8(output.stdout)?.lines() {
        match serde_json::from_str(line).with_context(|| format!("cargo said: {line}"))? {
            Told::CompilerMessage { target, message } if message.is_error() => {
                checked.errors.entry(target.name).or_default().push(message);
            }
            Told::CompilerArtifact { target } => {
                checked.compiled.insert(target.name);
            }
            Told::CompilerMessage { .. } | Told::Other => {}
        }
    }
    ensure!(
        checked.compiled.contains("pyo3_sync"),
        "cargo did not come as far as the cases:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(checked)
}
