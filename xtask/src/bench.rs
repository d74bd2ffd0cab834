//! `cargo xtask bench`: the benchmarks inside real interpreters, ours and our peers side by side.
//!
//! `benches/` measures, prints its tables and judges by the targets; this builds it for each interpreter, as an author would
//! build an extension, and runs it there. All figures are kept in `target/bench/NAME.json`. A target that is missed is
//! shown and does not fail the task: figures from a busy machine prove nothing. `--report` makes a report of them, with plots, and
//! `--readme` the table in README.md.

mod figures;
mod machine;
mod misses;
mod plot;
mod readme;
mod report;

use std::fs;

use anyhow::Context;
use xshell::{Shell, cmd};

use self::figures::Run;
use crate::{
    build::{self, ExtensionModule},
    python,
};

/// A build with the GIL and one without.
pub(crate) const INTERPRETERS: [&str; 2] = ["3.14", "3.14t"];

/// Lets every loop begin on a cache line. A loop of three instructions runs at half its speed where it straddles two, and
/// which loops do changes with each build.
const RUST_FLAGS: &str = "-C llvm-args=-align-loops=64";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to run: `3.14t` and so on, or `python3` for the machine's own; may be repeated. 3.14 and 3.14t, unless told
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Run only the benchmarks whose name contains this; of all others the figures are kept
    #[arg(default_value = "")]
    filter: String,

    /// Write a report of all figures, with plots
    #[arg(long)]
    report: bool,

    /// Write the table in README.md
    #[arg(long)]
    readme: bool,

    /// Measure nothing: take the figures that there are
    #[arg(long)]
    kept: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let names = if args.interpreters.is_empty() {
        INTERPRETERS.map(str::to_owned).to_vec()
    } else {
        args.interpreters
    };
    if !args.kept {
        // First everything is built, so that no compiler runs beside or just before a measurement.
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
pub(crate) struct Bench {
    pub(crate) interpreter: python::Interpreter,
    /// The folder with the extension module.
    pub(crate) modules: std::path::PathBuf,
}

impl Bench {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let interpreter = python::find(name)?;
        let module = ExtensionModule {
            workspace: &build::workspace(),
            package: "pyo3-sync-benches",
            interpreter: &interpreter.path,
            target: &build::target()?.join("bench/build").join(name),
            optimised: true,
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
            // Benchmarks that there are no more go, too.
            fs::rename(&measured, &figures)?;
        } else {
            figures::merge(&measured, &figures)?;
            fs::remove_file(&measured)?;
        }
        println!("All figures: {}\n", figures.display());
        Ok(())
    }
}
