//! `cargo stress`: rounds of the stress test of the suite inside interpreters.
//!
//! Each round is a process of its own, with a seed that is printed.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use pythons::{
    Interpreter,
    build::{self, ExtensionModule},
};
use suite_runner::{Launcher, Outcome};

/// Limit of a round beyond its length: to start, to end, and to collect garbage.
const GRACE: Duration = Duration::from_secs(60);

/// Run rounds of the stress test inside real interpreters: random operations of many threads
#[derive(Parser)]
#[command(bin_name = "cargo stress")]
struct Args {
    /// Run in this interpreter: `3.14t` and so on, or `python3` for the machine's own; may be
    /// repeated; 3.14 and 3.14t by default
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Total duration in each interpreter
    #[arg(long, value_name = "MINUTES", default_value_t = 2.0)]
    minutes: f64,

    /// Duration of a round
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    round: f64,

    /// Run one round, with this seed
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Build with optimizations
    #[arg(long)]
    release: bool,
}

/// The results of the rounds in one interpreter.
#[derive(Default)]
struct Tally {
    rounds: usize,
    /// Name and sum of each count that the rounds print.
    counts: Vec<(String, u64)>,
    /// For each round that failed, the command that repeats it and the reason.
    failures: Vec<String>,
}

struct Run {
    interpreter: String,
    version: String,
    result: anyhow::Result<Tally>,
}

fn main() -> ExitCode {
    pythons::exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let names = if args.interpreters.is_empty() {
        vec!["3.14".to_owned(), "3.14t".to_owned()]
    } else {
        args.interpreters.clone()
    };
    let runs: Vec<Run> = names.iter().map(|name| run_in(name, &args)).collect();
    print!("{}", report(&runs));
    let failed = runs.iter().filter(|run| !run.succeeded()).count();
    ensure!(
        failed == 0,
        "rounds failed in {failed} of {} interpreters",
        runs.len()
    );
    Ok(())
}

fn run_in(name: &str, args: &Args) -> Run {
    eprintln!("\n=== {name} ===");
    let mut version = String::new();
    let result = pythons::find(name)
        .with_context(|| format!("there is no Python {name}"))
        .and_then(|interpreter| {
            version.clone_from(&interpreter.version);
            rounds(&interpreter, args)
        });
    Run {
        interpreter: name.to_owned(),
        version,
        result,
    }
}

fn rounds(interpreter: &Interpreter, args: &Args) -> anyhow::Result<Tally> {
    let modules = ExtensionModule {
        workspace: &build::workspace(),
        package: "pyo3-sync-suite",
        interpreter: &interpreter.path,
        target: &build::target()?.join("suite").join(&interpreter.name),
        optimized: args.release,
        features: &[],
        rust_flags: "",
    }
    .build()?;
    let launcher = Launcher::suite(&interpreter.name, &interpreter.path, &modules);
    let length = Duration::from_secs_f64(args.round);
    let start = Instant::now();
    let limit = Duration::from_secs_f64(args.minutes * 60.0);
    let mut tally = Tally::default();
    loop {
        let seed = args.seed.unwrap_or_else(fresh_seed);
        tally.round(&launcher, seed, length, args)?;
        if args.seed.is_some() || start.elapsed() >= limit {
            return Ok(tally);
        }
    }
}

/// Returns a random seed, from the source of the hash maps of `std`.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};

    RandomState::new().hash_one(0)
}

impl Tally {
    fn round(
        &mut self,
        launcher: &Launcher,
        seed: u64,
        length: Duration,
        args: &Args,
    ) -> anyhow::Result<()> {
        let words = [
            "stress".to_owned(),
            seed.to_string(),
            length.as_millis().to_string(),
        ];
        let outcome = suite_runner::run_once(launcher, &words, length + GRACE)?;
        self.rounds += 1;
        self.add(outcome, launcher.name(), seed, args);
        Ok(())
    }

    fn add(&mut self, outcome: Outcome, interpreter: &str, seed: u64, args: &Args) {
        let counts = counts(&outcome.output);
        let failure = match (outcome.failure, &counts) {
            (None, Some(_)) => None,
            (None, None) => Some("it ended early".to_owned()),
            (Some(failure), _) => Some(failure),
        };
        for (name, number) in counts.into_iter().flatten() {
            match self.counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += number,
                None => self.counts.push((name, number)),
            }
        }
        if let Some(failure) = failure {
            let release = if args.release { " --release" } else { "" };
            let again = format!(
                "cargo stress -i {interpreter}{release} --round {} --seed {seed}",
                args.round
            );
            eprintln!(
                "\nthe round with the seed {seed} {failure}\n{}\nto run it again: {again}\n",
                outcome.output.trim_end()
            );
            self.failures.push(format!("{again}: {failure}"));
        }
    }
}

/// The line `stress: done: operations=7 deadlocks=2 ..`.
fn counts(output: &str) -> Option<Vec<(String, u64)>> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("stress: done: "))?;
    line.split_whitespace()
        .map(|word| {
            let (name, number) = word.split_once('=')?;
            Some((name.to_owned(), number.parse().ok()?))
        })
        .collect()
}

impl Run {
    fn succeeded(&self) -> bool {
        self.result
            .as_ref()
            .is_ok_and(|tally| tally.failures.is_empty())
    }
}

/// Returns a table, the failures, and lines with counts in the form of `cargo test`.
fn report(runs: &[Run]) -> String {
    let names: Vec<&str> = runs
        .iter()
        .flat_map(|run| &run.result)
        .find(|tally| !tally.counts.is_empty())
        .into_iter()
        .flat_map(|tally| &tally.counts)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(
        ["interpreter", "version", "rounds", "failed"]
            .iter()
            .chain(&names),
    );
    let (mut failed, mut lines) = (String::new(), String::new());
    for run in runs {
        let name = &run.interpreter;
        let (passed, wrong) = match &run.result {
            Ok(tally) => {
                let wrong = tally.failures.len();
                let mut row = vec![
                    name.clone(),
                    run.version.clone(),
                    tally.rounds.to_string(),
                    wrong.to_string(),
                ];
                row.extend(tally.counts.iter().map(|(_, sum)| sum.to_string()));
                table.add_row(row);
                for failure in &tally.failures {
                    failed += &format!("failed: [{name}] {failure}\n");
                }
                (tally.rounds - wrong, wrong)
            }
            Err(error) => {
                table.add_row([name, "did not run"]);
                failed += &format!("did not run: [{name}] {error:#}\n");
                (0, 1)
            }
        };
        let verdict = if run.succeeded() { "ok" } else { "FAILED" };
        lines += &format!(
            "test result: {verdict}. {passed} passed; {wrong} failed; 0 ignored; [{name}, rounds]\n"
        );
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("\n{table}\n\n{failed}{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            interpreters: Vec::new(),
            minutes: 1.0,
            round: 4.0,
            seed: None,
            release: false,
        }
    }

    fn outcome(failure: Option<&str>, output: &str) -> Outcome {
        Outcome {
            failure: failure.map(str::to_owned),
            output: output.to_owned(),
        }
    }

    #[test]
    fn counts_add_up_and_failures_tell_how_to_run_them_again() {
        let mut tally = Tally {
            rounds: 3,
            ..Tally::default()
        };
        let done = "stress: seed 5\nstress: done: operations=7 forks=1\n";
        tally.add(outcome(None, done), "3.14t", 5, &args());
        tally.add(outcome(Some("crashed"), done), "3.14t", 6, &args());
        tally.add(outcome(None, "stress: seed 7\n"), "3.14t", 7, &args());
        let run = Run {
            interpreter: "3.14t".to_owned(),
            version: "3.14.2".to_owned(),
            result: Ok(tally),
        };
        assert!(!run.succeeded());
        let report = report(&[run]);
        for line in [
            "failed: [3.14t] cargo stress -i 3.14t --round 4 --seed 6: crashed",
            "failed: [3.14t] cargo stress -i 3.14t --round 4 --seed 7: it ended early",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; [3.14t, rounds]",
        ] {
            assert!(report.lines().any(|other| other == line), "{report}");
        }
        let row = report.lines().find(|line| line.contains("3.14.2"));
        let cells: Vec<&str> = row.unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "3.14t", "3.14.2", "3", "2", "14", "2", ""]);
    }
}
