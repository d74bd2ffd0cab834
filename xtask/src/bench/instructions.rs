//! `cargo xtask bench --instructions`: the instructions of the fast paths, compared with
//! `benches/instructions.toml`.
//!
//! Unlike times, counts do not depend on the load of the machine, so that more of them are a
//! failure. They depend on the compiler: a new one may require `--update`.
//!
//! gungraun counts the instructions of Rust executables. These paths run in an extension module.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use xshell::{Shell, cmd};

use pythons::build::{target, workspace};

use super::{Bench, INTERPRETERS};

/// Increases of a figure up to the larger of these do not count as slower.
const TOLERANCE: f64 = 2.0;
const RELATIVE_TOLERANCE: f64 = 0.05;

/// The head of the file of figures.
const HEADER: &str = "\
# Instructions of one operation of each fast path, counted by callgrind in optimized builds, for
# `cargo xtask bench --instructions`. Written by `cargo xtask bench --instructions --update`. Every
# figure includes the loop around the operation.
";

/// The figures of one interpreter, by operation.
type Figures = BTreeMap<String, f64>;

pub(super) fn run(update: bool) -> anyhow::Result<()> {
    let version = Command::new("valgrind").arg("--version").output();
    ensure!(
        version.is_ok_and(|version| version.status.success()),
        "valgrind is not installed"
    );
    let file = workspace().join("benches/instructions.toml");
    let mut now = BTreeMap::new();
    for name in INTERPRETERS {
        let bench = Bench::new(name)?;
        now.insert(name.to_owned(), count(&bench)?);
    }
    if update {
        let figures = toml::to_string(&now)?;
        fs::write(&file, format!("{HEADER}\n{figures}"))?;
        println!("{} is written", file.display());
        return Ok(());
    }
    let kept =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let kept: BTreeMap<String, Figures> = toml::from_str(&kept)?;
    let (mut held, mut slower) = (0, 0);
    for (interpreter, figures) in &now {
        let empty = Figures::new();
        let kept = kept.get(interpreter).unwrap_or(&empty);
        println!("instructions for one operation, {interpreter}");
        println!("{}\n", table(figures, kept));
        let verdicts = verdicts(figures, kept);
        held += verdicts.values().filter(|verdict| !verdict.fails()).count();
        slower += verdicts.values().filter(|verdict| verdict.fails()).count();
    }
    // In the form of a report of tests, which CI adds up.
    let result = if slower == 0 { "ok" } else { "FAILED" };
    println!("test result: {result}. {held} passed; {slower} failed");
    if slower > 0 {
        bail!("a fast path is slower than before or has no figure; if intended, run with --update");
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    Same,
    Faster,
    Slower,
    /// Not in the file.
    New,
    /// In the file only.
    Gone,
}

impl Verdict {
    fn fails(self) -> bool {
        matches!(self, Verdict::Slower | Verdict::New | Verdict::Gone)
    }

    fn of(now: f64, kept: f64) -> Self {
        let tolerance = TOLERANCE.max(kept * RELATIVE_TOLERANCE);
        if now > kept + tolerance {
            Verdict::Slower
        } else if now < kept - tolerance {
            Verdict::Faster
        } else {
            Verdict::Same
        }
    }
}

fn verdicts<'a>(now: &'a Figures, kept: &'a Figures) -> BTreeMap<&'a str, Verdict> {
    let names = now.keys().chain(kept.keys());
    names
        .map(|name| {
            let verdict = match (now.get(name), kept.get(name)) {
                (Some(now), Some(kept)) => Verdict::of(*now, *kept),
                (Some(_), None) => Verdict::New,
                (None, _) => Verdict::Gone,
            };
            (name.as_str(), verdict)
        })
        .collect()
}

fn table(now: &Figures, kept: &Figures) -> Table {
    let mut table = Table::new();
    table
        .load_preset(ASCII_MARKDOWN)
        .set_header(["", "now", "kept", ""]);
    let shown =
        |figure: Option<&f64>| figure.map_or(String::new(), |figure| format!("{figure:.1}"));
    for (name, verdict) in verdicts(now, kept) {
        let said = match verdict {
            Verdict::Same => "",
            Verdict::Faster => "faster: `--update` keeps it so",
            Verdict::Slower => "SLOWER",
            Verdict::New => "NEW: `--update` writes a figure",
            Verdict::Gone => "GONE: `--update` takes it out",
        };
        table.add_row([name, &shown(now.get(name)), &shown(kept.get(name)), said]);
    }
    for column in table.column_iter_mut().skip(1).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Runs the operations under callgrind.
fn count(bench: &Bench) -> anyhow::Result<Figures> {
    let name = &bench.interpreter.name;
    let folder = target()?.join("bench/callgrind").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let dump = folder.join("callgrind.out");
    let script =
        "import json, pyo3_sync_benches; print(json.dumps(pyo3_sync_benches.count_instructions()))";
    let (python, dump_to) = (&bench.interpreter.path, dump.display().to_string());
    let function = "*take_reading*";
    let shell = Shell::new()?;
    let output = cmd!(
        shell,
        "valgrind --tool=callgrind --callgrind-out-file={dump_to} --dump-after={function}"
    )
    .arg(python)
    .args(["-B", "-c", script])
    .quiet()
    .ignore_stderr()
    .env("PYTHONPATH", &bench.modules)
    // A random seed would change the hash tables of the interpreter from run to run.
    .env("PYTHONHASHSEED", "0")
    .read()
    .with_context(|| format!("callgrind failed on Python {name}"))?;
    let (names, times): (Vec<String>, f64) = serde_json::from_str(&output)?;
    let figure = |place: usize| -> anyhow::Result<f64> {
        // Numbered from 1, four for each operation: before it, and of it, `times` and `2 * times`.
        let total = |number: usize| total(&dump.with_extension(format!("out.{number}")));
        let difference = total(4 * place + 4)? - total(4 * place + 2)?;
        Ok((difference / times * 10.0).round() / 10.0)
    };
    names
        .into_iter()
        .enumerate()
        .map(|(place, name)| Ok((name, figure(place)?)))
        .collect()
}

/// Returns the instructions of one dump, which ends with the line `totals: 4711`.
fn total(dump: &Path) -> anyhow::Result<f64> {
    let text = fs::read_to_string(dump).with_context(|| {
        let dump: PathBuf = dump.into();
        format!("callgrind has not written {}", dump.display())
    })?;
    text.lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|total| total.trim().parse().ok())
        .context("no total in what callgrind wrote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_path_fails_and_a_faster_one_does_not() {
        assert_eq!(Verdict::of(12.0, 10.0), Verdict::Same);
        assert_eq!(Verdict::of(12.1, 10.0), Verdict::Slower);
        assert_eq!(Verdict::of(7.9, 10.0), Verdict::Faster);
        assert_eq!(Verdict::of(105.0, 100.0), Verdict::Same);
        assert_eq!(Verdict::of(105.1, 100.0), Verdict::Slower);
    }

    #[test]
    fn what_only_one_side_knows_fails() {
        let one = Figures::from([("one".to_owned(), 1.0)]);
        let none = Figures::new();
        assert!(verdicts(&one, &none)["one"].fails());
        assert!(verdicts(&none, &one)["one"].fails());
    }
}
