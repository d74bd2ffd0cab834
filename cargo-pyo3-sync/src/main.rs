//! The command line.
//!
//! Exit codes: 0, nothing found at or above the threshold; 1, something was; 2, it could not be done.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Result, bail};
use cargo_pyo3_sync::{
    check::{self, Options, Outcome},
    finding::Severity,
    report, rules,
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
    /// Say what relies on the GIL, and what to write instead
    Check(Check),
    /// Show the page of a rule, or the list of all
    Explain {
        /// The name of a rule
        rule: Option<String>,
    },
}

#[derive(Args)]
struct Check {
    /// A package, a workspace, a folder of Rust source, or a file
    #[arg(default_value = ".")]
    path: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Fail only for findings of this severity and worse: unsound, deadlock, runtime-error, slow
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<Severity>,
    /// Leave out a rule
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// Apply a rule that is off by default; `all` for all of them
    #[arg(long, value_name = "RULE")]
    enable: Vec<String>,
    /// Apply only this rule
    #[arg(long, value_name = "RULE")]
    only: Vec<String>,
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
        if name != "all" && rules::find(name).is_none() {
            bail!("there is no rule `{name}`; `cargo pyo3-sync explain` lists them");
        }
    }
    let options = Options {
        allow: arguments.allow.clone(),
        enable: arguments.enable.clone(),
        enable_all: arguments.enable.iter().any(|name| name == "all"),
        only: arguments.only.clone(),
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
    if outcome.fails(threshold) {
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

fn explain(rule: Option<&str>) -> Result<ExitCode> {
    let text = match rule {
        Some(name) => match rules::find(name) {
            Some(rule) => rule.page.to_owned(),
            None => bail!("there is no rule `{name}`; `cargo pyo3-sync explain` lists them"),
        },
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

/// A reader that has enough, as `head`, is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
