//! `cargo xtask loom`: the models of `tests/loom`, with or without seeded bugs.

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use pythons::build::{target, workspace};
use wait_timeout::ChildExt;

#[path = "../../tests/loom/seeded_bugs.rs"]
mod seeded_bugs;

use seeded_bugs::{SEEDED_BUGS, SeededBug};

/// Limit for the models of a seeded bug, which may make them endless.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only models whose name begins so, such as `mutex` or `rwlock::leaving`
    #[arg(default_value = "")]
    models: String,

    /// Seed bugs instead, one at a time: those named, or all; fail unless the models find each
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "models")]
    seeded_bugs: Option<Vec<String>>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.seeded_bugs {
        Some(names) => check_seeded_bugs(&names),
        None => check_models(&args.models),
    }
}

/// Runs the models of the crate, for builds without and with a GIL.
fn check_models(prefix: &str) -> anyhow::Result<()> {
    for gil in [false, true] {
        println!("{}:", if gil { "with a GIL" } else { "free-threaded" });
        let status = Command::new(build(gil, "")?).arg(prefix).status()?;
        ensure!(status.success(), "a model failed");
    }
    Ok(())
}

/// Seeds one bug at a time. Fails if no assertion of its models finds one.
fn check_seeded_bugs(names: &[String]) -> anyhow::Result<()> {
    for name in names {
        let is_known = SEEDED_BUGS.iter().any(|bug| bug.name == name);
        ensure!(is_known, "there is no seeded bug {name}");
    }
    let is_wanted = |bug: &&SeededBug| names.is_empty() || names.iter().any(|it| it == bug.name);
    let wanted: Vec<_> = SEEDED_BUGS.iter().filter(is_wanted).collect();
    let mut missed = Vec::new();
    for bug in &wanted {
        let start = Instant::now();
        let (is_found, verdict) = find(bug)?;
        if !is_found {
            missed.push(bug.name);
        }
        let time = start.elapsed().as_secs();
        println!("{:38} {:30} {time:3} s  {verdict}", bug.name, bug.models);
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

/// Failures that do not name the property that a bug breaks: a leak, and a model that does not end.
const INCIDENTAL: [&str; 3] = [
    "leaked",
    "exceeded maximum number of branches",
    "a larger pool of atomics is needed",
];

/// Runs the models of `bug`. Returns whether an assertion fails, and the reason.
fn find(bug: &SeededBug) -> anyhow::Result<(bool, String)> {
    let models = build(bug.gil, bug.name)?;
    let folder = tempfile::tempdir()?;
    // A file, because the models would block on a full pipe.
    let report = folder.path().join("report");
    let file = std::fs::File::create(&report)?;
    let mut child = Command::new(models)
        .arg(bug.models)
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

/// Builds the models, with the seeded bug of this name if it is not empty. Returns their path.
fn build(gil: bool, bug: &str) -> anyhow::Result<PathBuf> {
    let target = target()?.join("models");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace())
        .args(["build", "--release", "--quiet"])
        .args(["--package", "pyo3-sync-models", "--target-dir"])
        .arg(&target)
        .env("SEEDED_BUG", bug);
    if gil {
        command.args(["--features", "gil"]);
    }
    let Output { status, stderr, .. } = command.output()?;
    if !status.success() {
        bail!("{}", String::from_utf8_lossy(&stderr));
    }
    let executable = format!("models{}", env::consts::EXE_SUFFIX);
    Ok(target.join("release").join(executable))
}
