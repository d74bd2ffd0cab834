//! `cargo xtask loom` and `cargo xtask mutants`: the models of `tests/loom`, of the crate as it is and with bugs in it.

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use wait_timeout::ChildExt;

use crate::build::{target, workspace};

#[path = "../../tests/loom/mutants.rs"]
mod mutants;

use mutants::{MUTANTS, Mutant};

/// How long the models may take with a bug in what they are about, which may make them endless.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub(crate) struct LoomArgs {
    /// Only models whose name begins so, as `mutex` or `rwlock::leaving`
    #[arg(default_value = "")]
    models: String,
}

#[derive(clap::Args)]
pub(crate) struct MutantsArgs {
    /// Only these; all, if none is named
    names: Vec<String>,
}

/// Runs the models of the crate as it is, for builds without and with a GIL.
pub(crate) fn run(args: LoomArgs) -> anyhow::Result<()> {
    for gil in [false, true] {
        println!("{}:", if gil { "with a GIL" } else { "free-threaded" });
        let status = Command::new(build(gil, "")?).arg(&args.models).status()?;
        ensure!(status.success(), "a model has failed");
    }
    Ok(())
}

/// Seeds one bug at a time, and fails if there is one that no assertion of its models finds.
pub(crate) fn run_mutants(args: MutantsArgs) -> anyhow::Result<()> {
    let is_wanted = |mutant: &&Mutant| {
        args.names.is_empty() || args.names.iter().any(|name| name == mutant.name)
    };
    let mut missed = Vec::new();
    let wanted: Vec<_> = MUTANTS.iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "there are no such mutants");
    for mutant in &wanted {
        let start = Instant::now();
        let (is_found, verdict) = look_for(mutant)?;
        if !is_found {
            missed.push(mutant.name);
        }
        let time = start.elapsed().as_secs();
        println!(
            "{:38} {:30} {time:3} s  {verdict}",
            mutant.name, mutant.models
        );
        std::io::stdout().flush()?;
    }
    let found = wanted.len() - missed.len();
    println!("test result: {found} passed; {} failed;", missed.len());
    ensure!(
        missed.is_empty(),
        "no assertion found: {}",
        missed.join(", ")
    );
    Ok(())
}

/// Failures that do not name the property that a bug breaks: of memory that is not freed, and of a
/// model that does not end.
const INCIDENTAL: [&str; 3] = [
    "leaked",
    "exceeded maximum number of branches",
    "a larger pool of atomics is needed",
];

/// Runs the models of `mutant`. Returns whether an assertion fails, and the reason.
fn look_for(mutant: &Mutant) -> anyhow::Result<(bool, String)> {
    let models = build(mutant.gil, mutant.name)?;
    let folder = tempfile::tempdir()?;
    // A file, because the models would block on a full pipe.
    let report = folder.path().join("report");
    let file = std::fs::File::create(&report)?;
    let mut child = Command::new(models)
        .arg(mutant.models)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let Some(status) = child.wait_timeout(LIMIT)? else {
        child.kill()?;
        child.wait()?;
        return Ok((
            false,
            format!("INCIDENTAL: no end in {} s", LIMIT.as_secs()),
        ));
    };
    if status.success() {
        return Ok((false, "SURVIVES".into()));
    }
    let report = String::from_utf8_lossy(&std::fs::read(&report)?).into_owned();
    Ok(match report.split_once(": FAILED: ") {
        Some((_, reason)) => {
            let lines = reason.lines().take_while(|line| !line.starts_with("at "));
            let reason: String = lines.collect::<Vec<_>>().join(" ");
            let reason: String = reason.chars().take(100).collect();
            if INCIDENTAL.iter().any(|text| reason.contains(text)) {
                (false, format!("INCIDENTAL: {reason}"))
            } else {
                (true, reason)
            }
        }
        None => (false, format!("INCIDENTAL: {status}")),
    })
}

/// Builds the models, with a bug if it is named, and gives where they are.
fn build(gil: bool, mutant: &str) -> anyhow::Result<PathBuf> {
    let target = target()?.join("models");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace())
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "pyo3-sync-models",
        ])
        .arg("--target-dir")
        .arg(&target)
        .env("MUTANT", mutant);
    if gil {
        command.args(["--features", "gil"]);
    }
    let Output { status, stderr, .. } = command.output()?;
    if !status.success() {
        bail!("{}", String::from_utf8_lossy(&stderr));
    }
    Ok(target
        .join("release")
        .join(format!("models{}", env::consts::EXE_SUFFIX)))
}
