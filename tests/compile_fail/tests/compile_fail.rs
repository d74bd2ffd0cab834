//! Programs that must not compile, each beside a twin that must: see `cases/`.
//!
//! A program can fail to compile for many reasons, and a test that only wants it to fail goes on passing when a renamed
//! method has become the reason. So each case
//!
//! - pins the error, in a line `//@ error: E0597`, or the message of an error that has no code, and must have that error and
//!   no other;
//! - has a twin in the same file, which differs by as little as possible and must compile: the case is what it is with
//!   `#[cfg(feature = "fail")]`, and its twin with `not(..)`.
//!
//! The cases are examples of this package, and cargo checks all of them twice, once as twins and once to fail. It does so in a
//! target folder of its own: not to wait for the cargo that runs this test, nor to make it build anything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, ensure};
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
    let cases = cases()?;
    let twins = Arc::new(check(&[])?);
    let failures = Arc::new(check(&["--features", "fail", "--keep-going"])?);
    let trials = cases.into_iter().map(|case| {
        let (twins, failures) = (Arc::clone(&twins), Arc::clone(&failures));
        Trial::test(case.name.clone(), move || case.judge(&twins, &failures))
    });
    Ok(trials.collect())
}

/// A file in `cases/`.
struct Case {
    name: String,
    /// A code, or the message of an error that has none.
    error: String,
}

fn cases() -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(Path::new(PACKAGE).join("cases"))? {
        let path = entry?.path();
        let name = path.file_stem().context("a case has a name")?;
        let name = name.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let mut pinned = text
            .lines()
            .filter_map(|line| line.strip_prefix("//@ error: "));
        let error = pinned.next().map(str::to_owned);
        ensure!(
            pinned.next().is_none(),
            "{name} has more than one line `//@ error: ..`"
        );
        let error = error.with_context(|| format!("{name} has no line `//@ error: ..`"))?;
        cases.push(Case { name, error });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

impl Case {
    fn judge(&self, twins: &Checked, failures: &Checked) -> Result<(), Failed> {
        let Case { name, error } = self;
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
    rendered: String,
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

/// Checks all cases.
fn check(arguments: &[&str]) -> anyhow::Result<Checked> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(PACKAGE)
        .args(["check", "--examples", "--message-format", "json"])
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail"))
        .args(arguments)
        .output()
        .context("cannot start cargo")?;
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
