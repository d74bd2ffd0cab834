//! The command line.
//!
//! | exit code | `check` | `fix` |
//! |---|---|---|
//! | 0 | no finding at or above the threshold | no changes, or all changes written |
//! | 1 | findings at or above the threshold | changes not written |
//! | 2 | error | error |

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use cargo_pyo3_sync::{
    check::{self, Options, Outcome},
    finding::Severity,
    fix, report, rules,
};
use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(
    name = "cargo pyo3-sync",
    bin_name = "cargo pyo3-sync",
    version,
    about = "What in a PyO3 extension relies on the GIL"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report code that relies on the GIL, and what to write instead
    Check(Check),
    /// Apply mechanical fixes: renamed items, `frozen`, the dependency
    Fix(Fix),
    /// Show the page of a rule, or list all rules
    Explain {
        /// The name of a rule
        rule: Option<String>,
    },
}

#[derive(Args)]
struct Check {
    /// A package, a workspace, a directory of Rust source, or a file
    #[arg(default_value = ".")]
    path: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Fail only for findings of this severity or worse: unsound, deadlock, runtime-error, slow
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<Severity>,
    /// Disable a rule
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// Enable a rule that is off by default; `all` enables every rule
    #[arg(long, value_name = "RULE")]
    enable: Vec<String>,
    /// Assume this version of PyO3 if no Cargo.toml states it
    #[arg(long, value_name = "VERSION")]
    pyo3: Option<semver::Version>,
    /// Apply only this rule
    #[arg(long, value_name = "RULE")]
    only: Vec<String>,
}

#[derive(Args)]
struct Fix {
    /// A package, a workspace, a directory of Rust source, or a file
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Write the changes; without this option, show them, and ask if on a terminal
    #[arg(long)]
    apply: bool,
    /// Write even if there are uncommitted changes
    #[arg(long)]
    allow_dirty: bool,
    /// Write even outside a git repository
    #[arg(long)]
    allow_no_vcs: bool,
    /// Depend on a checkout of pyo3-sync instead of a published version
    #[arg(long, value_name = "FOLDER")]
    pyo3_sync_path: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
    Sarif,
}

fn main() -> ExitCode {
    // `cargo pyo3-sync check` runs `cargo-pyo3-sync pyo3-sync check`.
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments
        .get(1)
        .is_some_and(|argument| argument == "pyo3-sync")
    {
        arguments.remove(1);
    }
    let outcome = match Cli::parse_from(arguments).command {
        Command::Check(arguments) => check(&arguments),
        Command::Fix(arguments) => fix(&arguments),
        Command::Explain { rule } => explain(rule.as_deref()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(arguments: &Check) -> Result<ExitCode> {
    for name in arguments
        .allow
        .iter()
        .chain(&arguments.enable)
        .chain(&arguments.only)
    {
        if name != "all" {
            rules::find(name)?;
        }
    }
    let options = Options {
        allow: arguments.allow.clone(),
        enable: arguments.enable.clone(),
        enable_all: arguments.enable.iter().any(|name| name == "all"),
        only: arguments.only.clone(),
        pyo3: arguments.pyo3.clone(),
    };
    let outcome = check::run(&arguments.path, &options)?;
    let text = match arguments.format {
        Format::Human => report::human::render(&outcome, std::io::stdout().is_terminal()),
        Format::Json => report::json::render(&outcome)? + "\n",
        Format::Sarif => report::sarif::render(&outcome)? + "\n",
    };
    print(&text)?;
    Ok(code(&outcome, arguments.fail_on))
}

fn code(outcome: &Outcome, threshold: Option<Severity>) -> ExitCode {
    if !outcome.errors.is_empty() {
        ExitCode::from(2)
    } else if outcome.fails(threshold) {
        ExitCode::from(1)
    } else if outcome
        .project
        .crates
        .iter()
        .all(|source| source.files.is_empty())
    {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

fn fix(arguments: &Fix) -> Result<ExitCode> {
    let plan = fix::plan(&arguments.path, arguments.pyo3_sync_path.as_deref())?;
    let mut text = plan.diff();
    for done in &plan.done {
        text.push_str(&format!("{done}\n"));
    }
    for left in &plan.left {
        text.push_str(&format!("left alone: {left}\n"));
    }
    if plan.changes.is_empty() {
        text.push_str("nothing to change\n");
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&text)?;
    if !arguments.apply && !asked()? {
        print("not written; `--apply` writes it\n")?;
        return Ok(ExitCode::from(1));
    }
    fix::refuse_if_dirty(
        &arguments.path,
        arguments.allow_dirty,
        arguments.allow_no_vcs,
    )?;
    plan.write()?;
    print(&format!("written: {} files\n", plan.changes.len()))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the user on a terminal. Returns `false` if there is no terminal.
fn asked() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print("write this? [y/N] ")?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn explain(rule: Option<&str>) -> Result<ExitCode> {
    let text = match rule {
        Some(name) => rules::find(name)?.page.to_owned(),
        None => rules::ALL
            .iter()
            .map(|rule| {
                let off = if rule.on_by_default {
                    ""
                } else {
                    " (off by default)"
                };
                format!(
                    "{:<22} {:<14} {}{off}\n",
                    rule.id,
                    rule.severity.name(),
                    rule.title
                )
            })
            .collect(),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints `text`. Ignores a closed pipe, as with `head`.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
