//! `cargo xtask demo`: how each example fails under threads before it is ported, and how fast it is
//! after.

use std::{fs, time::Instant};

use anyhow::Context;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets::ASCII_MARKDOWN};
use serde::Deserialize;
use xshell::{Shell, cmd};

use super::{Built, all, folder, python_path};

/// One with the GIL, and one without.
const INTERPRETERS: [&str; 2] = ["3.14", "3.14t"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run in this interpreter: `3.14t` and so on, or `python3` for the machine's own; may be
    /// repeated; 3.14 and 3.14t by default
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,
}

/// The results of `demo.py` for one example.
#[derive(Deserialize)]
struct Row {
    example: String,
    /// Failures of the original module.
    before: String,
    /// Failures of the ported module; empty if there are none.
    after: String,
    /// Operations per second, by one thread and by two.
    per_second: [f64; 2],
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let names = if args.interpreters.is_empty() {
        INTERPRETERS.map(str::to_owned).to_vec()
    } else {
        args.interpreters
    };
    eprintln!("Building the examples (the first time, a minute or two) ..");
    let builds = names
        .iter()
        .map(|name| Built::new(name))
        .collect::<anyhow::Result<Vec<_>>>()?;

    let start = Instant::now();
    let names = all()?;
    let mut rows = Vec::new();
    for built in &builds {
        rows.push(watch(built, &names)?);
    }
    println!("\n{}", table(&names, &builds, &rows));
    println!(
        "before: how the original extension fails under threads, and how often; each hang is a \
         process that was killed.\n\
         after: the same uses, none of which fails; calls from Python per second, by one thread \
         and by two.\n\
         The sources are examples/NAME/before.rs and after.rs; MIGRATION.md is the guide. \
         ({:.0} s)",
        start.elapsed().as_secs_f64()
    );
    let failures = rows.iter().flatten().filter(|row| !row.after.is_empty());
    let failures: Vec<_> = failures
        .map(|row| format!("{}: {}", row.example, row.after))
        .collect();
    anyhow::ensure!(
        failures.is_empty(),
        "ported, and fails: {}",
        failures.join("; ")
    );
    Ok(())
}

/// Runs all examples in one interpreter, which prints its progress on standard error.
fn watch(built: &Built, names: &[String]) -> anyhow::Result<Vec<Row>> {
    let interpreter = &built.interpreter;
    eprintln!("Python {} ({})", interpreter.version, kind(built));
    let (python, shell) = (&built.python, Shell::new()?);
    shell.change_dir(folder());
    let result = tempfile::NamedTempFile::new()?;
    let path = result.path();
    cmd!(shell, "{python} -B demo.py {path} {names...}")
        .env("PYTHONPATH", python_path(built)?)
        .env("RUST_BACKTRACE", "0")
        .quiet()
        .run()
        .with_context(|| format!("the demonstration failed on Python {}", interpreter.name))?;
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

fn kind(built: &Built) -> &'static str {
    if built.interpreter.free_threaded {
        "no GIL"
    } else {
        "GIL"
    }
}

fn table(names: &[String], builds: &[Built], rows: &[Vec<Row>]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "example",
            "Python",
            "before",
            "after: 1 thread",
            "2 threads",
        ]);
    for (number, name) in names.iter().enumerate() {
        for (build, (built, rows)) in builds.iter().zip(rows).enumerate() {
            let Row {
                before, per_second, ..
            } = &rows[number];
            let [one, two] = per_second.map(|calls| format!("{:.1} M/s", calls / 1e6));
            table.add_row([
                if build == 0 { name } else { "" },
                kind(built),
                before,
                &one,
                &two,
            ]);
        }
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
