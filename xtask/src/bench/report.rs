//! `target/bench/report.md`: all figures of all interpreters, the targets, and reasons for misses.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use super::{
    figures::{Benchmark, OURS, Run, Target},
    machine,
    misses::Misses,
    plot,
};

pub(super) fn write(folder: &Path, runs: &[Run]) -> anyhow::Result<()> {
    let misses = Misses::read()?;
    let plots = folder.join("plots");
    if plots.exists() {
        fs::remove_dir_all(&plots)?;
    }
    fs::create_dir_all(&plots)?;

    let mut text = String::from("# Benchmarks of pyo3-sync beside its peers\n\n");
    for fact in machine::describe(runs) {
        writeln!(text, "- {fact}")?;
    }
    text += "\nNanoseconds for one operation, also relative to this crate. \
             `benches/src/lib.rs` describes the measurement.\n\n";
    text += &targets(runs, &misses)?;

    let mut family_of_last = None;
    for name in names(runs) {
        let of_all: Vec<(&Run, &Benchmark)> = runs
            .iter()
            .filter_map(|run| Some((run, run.benchmark(name)?)))
            .collect();
        let family = of_all[0].1.family().map(|(family, _)| family);
        if family.is_none() || family != family_of_last {
            let title = family.unwrap_or(name);
            writeln!(text, "## {title}\n")?;
            let file = format!("{}.svg", slug(title));
            let drawn = match family {
                Some(family) => plot::threads(&plots.join(&file), family, runs),
                None => plot::bars(&plots.join(&file), name, &of_all),
            };
            drawn.with_context(|| format!("cannot draw {file}"))?;
            writeln!(text, "![{title}](plots/{file})\n")?;
        }
        family_of_last = family;
        if family.is_some() {
            writeln!(text, "### {name}\n")?;
        }
        writeln!(text, "{}\n", table(&of_all))?;
        for (run, benchmark) in of_all {
            for target in &benchmark.targets {
                writeln!(text, "- {}: {}", run.interpreter, described(target))?;
            }
        }
        text.push('\n');
    }
    text += &memory(runs)?;
    let file = folder.join("report.md");
    fs::write(&file, text)?;
    println!("Report: {}, with plots beside it", file.display());
    Ok(())
}

/// The names of all benchmarks, in the order in which they were run.
fn names(runs: &[Run]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for benchmark in runs.iter().flat_map(|run| &run.benchmarks) {
        if names.contains(&benchmark.name.as_str()) {
            continue;
        }
        // Beside others of its family, which not every interpreter has all of.
        let family = benchmark.family().map(|(family, _)| family);
        let related = |name: &&str| {
            family.is_some_and(|family| name.rsplit_once(", ").is_some_and(|(of, _)| of == family))
        };
        let place = names.iter().rposition(related);
        names.insert(
            place.map_or(names.len(), |place| place + 1),
            &benchmark.name,
        );
    }
    names
}

fn slug(title: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let parts = title.to_lowercase().chars().map(kept).collect::<String>();
    let parts: Vec<&str> = parts.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

fn targets(runs: &[Run], misses: &Misses) -> anyhow::Result<String> {
    let mut text = String::from("## Targets\n\n");
    let all = || {
        runs.iter().flat_map(|run| {
            let benchmarks = run.benchmarks.iter();
            benchmarks.flat_map(move |benchmark| {
                let targets = benchmark.targets.iter();
                targets.map(move |target| (run, benchmark, target))
            })
        })
    };
    let missed = all().filter(|(.., target)| target.is_missed()).count();
    let even = all()
        .filter(|(.., target)| target.verdict == "EVEN")
        .count();
    writeln!(
        text,
        "{} targets: {} met, {even} within the variation of repetitions, {missed} missed:\n",
        all().count(),
        all().count() - missed - even,
    )?;
    for (run, benchmark, target) in all().filter(|(.., target)| target.is_missed()) {
        let reason = misses.reason(run, benchmark, target);
        writeln!(
            text,
            "- **{}**, {}: {}. {}",
            benchmark.name,
            run.interpreter,
            described(target),
            reason.unwrap_or("No reason in `benches/misses.toml`."),
        )?;
    }
    text.push('\n');
    Ok(text)
}

fn described(target: &Target) -> String {
    let Target {
        peer,
        at_most,
        ratio,
        verdict,
        quantity,
    } = target;
    let what = if quantity == "time" {
        String::new()
    } else {
        format!("{quantity} ")
    };
    format!("{verdict}, {what}{ratio:.2} x {peer}, at most {at_most:.2} wanted")
}

/// A row for each subject, and columns for each interpreter.
fn table(of_all: &[(&Run, &Benchmark)]) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for subject in of_all.iter().flat_map(|(_, benchmark)| &benchmark.subjects) {
        if !names.contains(&subject.name.as_str()) {
            names.push(&subject.name);
        }
    }
    let is_fight = |benchmark: &Benchmark| {
        let mut subjects = benchmark.subjects.iter();
        subjects.any(|subject| subject.longest_wait.is_some())
    };
    let mut header = vec![String::new()];
    for (run, benchmark) in of_all {
        let name = &run.interpreter;
        header.extend([format!("{name}: ns"), "x ours".to_owned()]);
        if is_fight(benchmark) {
            header.extend(["least share".to_owned(), "longest wait".to_owned()]);
        }
    }
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    for name in names {
        let mut row = vec![name.to_owned()];
        for (_, benchmark) in of_all {
            let subject = benchmark.subject(name);
            let figure = subject.map(|subject| benchmark.figure(subject));
            let ratio = figure.zip(benchmark.of(OURS)).map(|(a, b)| a / b);
            let number =
                |number: Option<f64>| number.map_or(String::new(), |number| format!("{number:.2}"));
            row.extend([number(figure), number(ratio)]);
            if is_fight(benchmark) {
                let percent = |share: f64| format!("{:.0} %", share * 100.0);
                let milliseconds = |wait: f64| format!("{:.2} ms", wait / 1e6);
                let share = subject.and_then(|subject| subject.least_share);
                let wait = subject.and_then(|subject| subject.longest_wait);
                row.push(share.map_or(String::new(), percent));
                row.push(wait.map_or(String::new(), milliseconds));
            }
        }
        table.add_row(row);
    }
    align(&mut table);
    table
}

fn memory(runs: &[Run]) -> anyhow::Result<String> {
    let mut text = String::from("## Memory\n\n");
    text += "Bytes of a primitive, and on the heap for each thread that has used it and for each \
             that waits, without stacks and memory of the interpreter and the system.\n\n";
    for run in runs {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header([
            run.interpreter.as_str(),
            "T = ()",
            "T = Py<PyAny>",
            "a thread that used it",
            "a thread that waits",
        ]);
        let bytes = |bytes: Option<f64>| bytes.map_or(String::new(), |bytes| format!("{bytes:.0}"));
        for memory in &run.memory {
            let with_object = memory.with_object.map(|size| size.to_string());
            table.add_row([
                memory.name.clone(),
                memory.empty.to_string(),
                with_object.unwrap_or_default(),
                bytes(memory.used),
                bytes(memory.waits),
            ]);
        }
        align(&mut table);
        writeln!(text, "{table}\n")?;
    }
    Ok(text)
}

/// Numbers to the right.
fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
