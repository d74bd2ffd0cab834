//! `cargo xtask bench`: the benchmarks inside real interpreters, beside those of peers.
//!
//! `benches/` measures, prints its tables and compares with the targets. This builds it for each
//! interpreter, as an author would build an extension, and runs it there. All figures are kept in
//! `target/bench/NAME.json`. A missed target does not fail the task: figures from a busy machine
//! prove nothing. `--report` writes a report with plots, and `--readme` the table in README.md.
//!
//! `--instructions` counts instructions instead, which are the same on a busy machine.

mod figures;
mod instructions;
mod machine;
mod misses;
mod plot;
mod readme;
mod report;

use std::fs;

use anyhow::Context;
use xshell::{Shell, cmd};

use self::figures::Run;
use pythons::{
    Interpreter,
    build::{self, ExtensionModule},
};

/// A build with the GIL and one without.
const INTERPRETERS: [&str; 2] = ["3.14", "3.14t"];

/// Aligns every loop to a cache line. A loop of three instructions runs at half its speed where it
/// straddles two, and which loops do so changes with each build.
const RUST_FLAGS: &str = "-C llvm-args=-align-loops=64";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run in this interpreter: `3.14t` and so on, or `python3` for the machine's own; may be
    /// repeated; 3.14 and 3.14t by default
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Run only the benchmarks whose name contains this; keep the figures of the others
    #[arg(default_value = "")]
    filter: String,

    /// Write a report of all figures, with plots
    #[arg(long)]
    report: bool,

    /// Write the table in README.md
    #[arg(long)]
    readme: bool,

    /// Measure nothing: use the figures of the last run
    #[arg(long)]
    kept: bool,

    /// Count the instructions of the fast paths under callgrind; fail if there are more than in
    /// benches/instructions.toml
    #[arg(long, conflicts_with_all = ["interpreters", "filter", "report", "readme", "kept"])]
    instructions: bool,

    /// Write benches/instructions.toml instead of comparing with it
    #[arg(long, requires = "instructions")]
    update: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.instructions {
        return instructions::run(args.update);
    }
    let names = if args.interpreters.is_empty() {
        INTERPRETERS.map(str::to_owned).to_vec()
    } else {
        args.interpreters
    };
    if !args.kept {
        // Builds everything first, so that no compiler runs during a measurement.
        let benches = names
            .iter()
            .map(|name| Bench::new(name))
            .collect::<anyhow::Result<Vec<_>>>()?;
        benches
            .iter()
            .try_for_each(|bench| bench.run(&args.filter))?;
    }
    if !(args.report || args.readme) {
        return Ok(());
    }
    let folder = build::target()?.join("bench");
    let runs = names
        .iter()
        .map(|name| Run::read(&folder, name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if args.report {
        report::write(&folder, &runs)?;
    }
    if args.readme {
        readme::write(&runs)?;
    }
    Ok(())
}

/// The benchmarks, built for one interpreter.
struct Bench {
    interpreter: Interpreter,
    /// The folder with the extension module.
    modules: std::path::PathBuf,
}

impl Bench {
    fn new(name: &str) -> anyhow::Result<Self> {
        let interpreter = pythons::find(name)?;
        let module = ExtensionModule {
            workspace: &build::workspace(),
            package: "pyo3-sync-benches",
            interpreter: &interpreter.path,
            target: &build::target()?.join("bench/build").join(name),
            optimized: true,
            features: &[],
            rust_flags: RUST_FLAGS,
        };
        let modules = module.build()?;
        Ok(Bench {
            interpreter,
            modules,
        })
    }

    fn run(&self, filter: &str) -> anyhow::Result<()> {
        let Self {
            interpreter,
            modules,
        } = self;
        let figures = build::target()?.join("bench");
        fs::create_dir_all(&figures)?;
        let figures = figures.join(format!("{}.json", interpreter.name));
        let build = if interpreter.free_threaded {
            "free-threaded"
        } else {
            "with the GIL"
        };
        println!("=== Python {}, {build} ===\n", interpreter.version);
        let script = "import sys, pyo3_sync_benches; pyo3_sync_benches.run(*sys.argv[1:])";
        let python = &interpreter.path;
        let shell = Shell::new()?;
        let measured = figures.with_extension("new");
        cmd!(shell, "{python} -B -c {script} {filter} {measured}")
            .quiet()
            .env("PYTHONPATH", modules)
            .run()
            .with_context(|| format!("the benchmarks failed on Python {}", interpreter.name))?;
        if filter.is_empty() {
            // Removes the figures of benchmarks that no longer exist.
            fs::rename(&measured, &figures)?;
        } else {
            figures::merge(&measured, &figures)?;
            fs::remove_file(&measured)?;
        }
        println!("All figures: {}\n", figures.display());
        Ok(())
    }
}
