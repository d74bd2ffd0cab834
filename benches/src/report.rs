//! What is shown of an outcome: a table for people, and every figure as JSON for reports to come.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::{Value, json};

use crate::{
    FREE_THREADED,
    harness::{Fairness, Figures, OURS, Outcome, Peer, Quantity, Statistic, Target},
    memory::Memory,
};

/// The peer that every table shows a ratio to, if it is there.
const REFERENCE: &str = "std";

/// By how much the ratio of two subjects that do the very same differs from run to run on a quiet machine. A target that is
/// missed by no more counts as neither reached nor missed.
const NOISE: f64 = 0.03;

pub(crate) fn table(name: &str, outcome: &Outcome) -> String {
    let fought = outcome
        .subjects
        .iter()
        .any(|subject| subject.fairness().is_some());
    let mut header = vec!["", "min", "median", "to std", "to ours"];
    if fought {
        header.extend(["least share", "longest wait"]);
    }
    header.push("target");

    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    for subject in &outcome.subjects {
        let mut row = vec![
            subject.name.to_owned(),
            format!("{:.2}", subject.minimum()),
            format!("{:.2}", subject.median()),
            ratio(outcome, subject, REFERENCE),
            ratio(outcome, subject, OURS),
        ];
        row.extend(subject.fairness().into_iter().flat_map(fairness));
        if subject.name == OURS {
            let targets = outcome.targets.iter();
            let verdicts: Vec<_> = targets
                .filter_map(|target| described(outcome, target))
                .collect();
            row.push(verdicts.join("\n"));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1).take(header_numbers(fought)) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let counts = match outcome.counts {
        Statistic::Minimum => "minima",
        Statistic::Median => "medians",
    };
    format!("{name} (ns per operation; ratios of {counts})\n{table}\n")
}

/// How many columns hold numbers.
fn header_numbers(fought: bool) -> usize {
    if fought { 6 } else { 4 }
}

fn ratio(outcome: &Outcome, subject: &Figures, other: &str) -> String {
    outcome
        .named(other)
        .map(|other| format!("{:.2}", outcome.figure(subject) / outcome.figure(other)))
        .unwrap_or_default()
}

fn fairness(fairness: Fairness) -> [String; 2] {
    let share = format!("{:.0} %", fairness.least_share * 100.0);
    [share, milliseconds(fairness.longest_wait)]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// The peer, the ratio, and what that says.
fn verdict(outcome: &Outcome, target: &Target) -> Option<(&'static str, f64, &'static str)> {
    let (peer, ratio) = outcome.reached(target)?;
    let verdict = if ratio <= target.at_most {
        "PASS"
    } else if ratio <= target.at_most * (1.0 + NOISE) {
        "EVEN"
    } else {
        "MISS"
    };
    Some((peer, ratio, verdict))
}

fn described(outcome: &Outcome, target: &Target) -> Option<String> {
    let (peer, ratio, verdict) = verdict(outcome, target)?;
    let best = match target.peer {
        Peer::Named(_) | Peer::Nanosecond => "",
        Peer::Best => "best: ",
    };
    let what = match target.quantity {
        Quantity::Time => "",
        Quantity::LongestWait => "longest wait ",
    };
    let at_most = target.at_most;
    Some(format!(
        "{verdict} {what}{ratio:.2}, at most {at_most:.3} x {best}{peer}"
    ))
}

/// All figures of all benchmarks.
pub(crate) fn json(python: &str, outcomes: &[(String, Outcome)], memory: &[Memory]) -> String {
    let benchmarks: Vec<Value> = outcomes
        .iter()
        .map(|(name, outcome)| benchmark(name, outcome))
        .collect();
    let report = json!({
        "python": python,
        "free_threaded": FREE_THREADED,
        "unit": "nanoseconds per operation",
        "benchmarks": benchmarks,
        "memory": memory.iter().map(Memory::json).collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

fn benchmark(name: &str, outcome: &Outcome) -> Value {
    let subjects: Vec<Value> = outcome.subjects.iter().map(figures).collect();
    let targets: Vec<Value> = outcome
        .targets
        .iter()
        .filter_map(|target| {
            let (peer, ratio, verdict) = verdict(outcome, target)?;
            let quantity = match target.quantity {
                Quantity::Time => "time",
                Quantity::LongestWait => "longest wait",
            };
            Some(json!({
                "quantity": quantity,
                "peer": peer,
                "at_most": target.at_most,
                "ratio": ratio,
                "verdict": verdict,
            }))
        })
        .collect();
    let counts = match outcome.counts {
        Statistic::Minimum => "minimum",
        Statistic::Median => "median",
    };
    json!({ "name": name, "counts": counts, "subjects": subjects, "targets": targets })
}

fn figures(subject: &Figures) -> Value {
    let rounds: Vec<f64> = subject
        .rounds
        .iter()
        .map(|round| round.nanoseconds)
        .collect();
    json!({
        "name": subject.name,
        "minimum": subject.minimum(),
        "median": subject.median(),
        "rounds": rounds,
        "least_share": subject.fairness().map(|fairness| fairness.least_share),
        "longest_wait": subject
            .fairness()
            .map(|fairness| fairness.longest_wait.as_secs_f64() * 1e9),
    })
}
