//! The table of figures in README.md, between two marks.

use std::{fmt::Write, fs};

use anyhow::{Context, ensure};
use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::{
    figures::{OURS, Run},
    machine,
};
use pythons::build::workspace;

const BEGIN: &str = "<!-- Written by `cargo xtask bench --readme`: begin -->";
const END: &str = "<!-- end -->";

/// Subjects of a benchmark, with what they are called in the table.
type Peers = &'static [(&'static str, &'static str)];

/// The rows of the table: an operation, its benchmark, and its peers.
const ROWS: &[(&str, &str, Peers)] = &[
    (
        "reading a filled cell",
        "once-lock: hot get",
        &[("pyo3", "pyo3"), ("std", "std")],
    ),
    (
        "filling a cell, alone",
        "once-lock: first initialisation",
        &[("pyo3", "pyo3"), ("std", "std")],
    ),
    (
        "2 threads arriving at a cell",
        "once-lock: 2 threads arriving",
        &[("pyo3", "pyo3"), ("std", "std")],
    ),
    (
        "8 threads arriving at a cell",
        "once-lock: 8 threads arriving",
        &[("pyo3", "pyo3"), ("std", "std")],
    ),
    ("mutex: lock and unlock", "mutex: uncontended pair", PLAIN),
    (
        "mutex: 2 threads fight",
        "mutex: contended, 0 ns, 2 threads",
        PLAIN,
    ),
    (
        "mutex: 8 threads fight",
        "mutex: contended, 0 ns, 8 threads",
        PLAIN,
    ),
    (
        "mutex: 4 threads fight, its owner detaches",
        "mutex: owner detaches, 0 ns, 4 threads",
        EXT,
    ),
    (
        "mutex: handed over to a sleeping thread",
        "hand-over: the waiter sleeps",
        EXT,
    ),
    ("read-write lock: read", "rwlock: read", PLAIN),
    (
        "read-write lock: 2 threads, 1 write in 100",
        "rwlock: reads 99 : writes 1, 2 threads",
        PLAIN,
    ),
    (
        "borrowing in a critical section",
        "protected: with_mut",
        &[("pyo3, section on a mutex", "pyo3, no borrow")],
    ),
    (
        "condition variable: 2 threads take turns",
        "condvar: 2 threads take turns",
        &[
            ("std, in detach", "std"),
            ("parking_lot, in detach", "parking_lot"),
        ],
    ),
    (
        "state of a module",
        "module_state: get, one module",
        &[("module's dictionary", "module's dictionary")],
    ),
    (
        "`counter.increment()` from Python, with a mutex",
        "method call: counter.increment()",
        &[
            ("frozen, atomic", "an atomic"),
            ("&mut self", "`&mut self`"),
        ],
    ),
];

const PLAIN: Peers = &[
    ("pyo3", "pyo3"),
    ("std", "std"),
    ("parking_lot", "parking_lot"),
];
const EXT: Peers = &[
    ("pyo3, no poison", "pyo3"),
    ("std, MutexExt", "std"),
    ("parking_lot, MutexExt", "parking_lot"),
];

pub(super) fn write(runs: &[Run]) -> anyhow::Result<()> {
    let file = workspace().join("README.md");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, replace(&text, &section(runs)?)?)?;
    println!("README.md: the table is written");
    Ok(())
}

/// Puts the section between the marks.
fn replace(text: &str, section: &str) -> anyhow::Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .context("README.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("that place has no end")?;
    ensure!(!after.contains(BEGIN), "there are two places for the table");
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

fn section(runs: &[Run]) -> anyhow::Result<String> {
    let mut table = Table::new();
    let header = [""]
        .into_iter()
        .chain(runs.iter().map(|run| run.interpreter.as_str()));
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    for (label, benchmark, peers) in ROWS {
        let cells = runs.iter().map(|run| cell(run, benchmark, peers));
        table.add_row([(*label).to_owned()].into_iter().chain(cells));
    }
    let mut text =
        String::from("\nOurs, and that as a multiple of the peers' (below 1 we are faster):\n\n");
    writeln!(text, "{table}\n")?;
    for fact in machine::describe(runs) {
        writeln!(text, "- {fact}")?;
    }
    text.push('\n');
    Ok(text)
}

fn cell(run: &Run, benchmark: &str, peers: Peers) -> String {
    let Some(benchmark) = run.benchmark(benchmark) else {
        return "–".to_owned();
    };
    let Some(ours) = benchmark.of(OURS) else {
        return "–".to_owned();
    };
    let time = match ours {
        short if short < 100.0 => format!("{short:.2} ns"),
        long => format!("{:.2} µs", long / 1000.0),
    };
    let ratios = peers.iter().filter_map(|(subject, name)| {
        let ratio = ours / benchmark.of(subject)?;
        Some(format!("{ratio:.2} x {name}"))
    });
    let ratios: Vec<String> = ratios.collect();
    format!("{time}: {}", ratios.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_has_a_place_for_the_table() {
        let text = fs::read_to_string(workspace().join("README.md")).expect("there is one");
        replace(&text, "").expect("both marks, once and in order");
    }

    #[test]
    fn all_around_the_table_stays() -> anyhow::Result<()> {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace(&text, "new\n")?;
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert!(replace("nothing", "new").is_err());
        assert!(replace(&format!("{text}{text}"), "new").is_err());
        Ok(())
    }
}
