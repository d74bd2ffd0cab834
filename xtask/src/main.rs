//! `cargo xtask`: tasks of the workspace that need real interpreters or the models.
//!
//! Tasks of one part of the workspace are programs beside it: `cargo ports`, `cargo corpus`,
//! `cargo stress` and `cargo sanitize`. For coverage, mutants, semantic versions and packages there
//! are maintained tools; `docs/verification.md` says how to run them.

mod bench;
mod examples;
mod loom;
mod python;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Tasks of the pyo3-sync workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the benchmarks inside real interpreters, or count instructions under callgrind
    ///
    /// criterion and gungraun measure Rust executables. These benchmarks are an extension module,
    /// because the cost depends on the interpreter that loads it.
    Bench(bench::Args),
    /// Show how the examples fail before they are ported, and how fast they are after
    ///
    /// The demonstration belongs to the examples: no other tool knows them.
    Demo(examples::demo::Args),
    /// Run the Python tests of the examples inside real interpreters
    ///
    /// maturin builds one extension module for each package, and the examples are twenty of one
    /// package; nox and tox run tests, but do not build.
    Examples(examples::Args),
    /// Check the models of the state machines with loom, with or without seeded bugs
    ///
    /// loom explores one model; the task builds all of them, with and without a GIL. cargo-mutants
    /// generates bugs; seeded bugs are written by hand, each with the models that must find it.
    Loom(loom::Args),
    /// Print the path of an interpreter, getting it first if the machine has none
    ///
    /// uv installs interpreters, and the task asks it to. What uv cannot download is assembled.
    Python(python::Args),
    /// Run the behavior tests inside real interpreters, each test in a process of its own
    ///
    /// cargo-nextest gives each test a process too, but runs Rust executables: the suite is an
    /// extension module, and most interpreters cannot be embedded.
    Test(test::Args),
}

fn main() -> ExitCode {
    pythons::exit_code(run())
}

fn run() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Bench(args) => bench::run(args),
        Task::Demo(args) => examples::demo::run(args),
        Task::Examples(args) => examples::run(args),
        Task::Loom(args) => loom::run(args),
        Task::Python(args) => python::run(args),
        Task::Test(args) => test::run(args),
    }
}
