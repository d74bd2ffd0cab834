//! `cargo xtask`: the project's own tasks, in Rust so that a machine with Rust and Python can run them all.

mod bench;
mod build;
mod corpus;
mod coverage;
mod demo;
mod examples;
mod instructions;
mod llvm;
mod loom;
mod ports;
mod published;
mod python;
mod rust;
mod sanitize;
mod stress;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the pyo3-sync workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the benchmarks inside real interpreters, beside our peers
    Bench(bench::Args),
    /// Measure the checker on published extensions, against labels made by hand
    Corpus(corpus::Args),
    /// Run the behaviour tests inside real interpreters and list what of `src/` none of them has run
    Coverage(coverage::Args),
    /// Show how the examples fail before they are ported, and how fast they are after
    Demo(demo::Args),
    /// Run the Python tests of the examples inside real interpreters and print one table
    Examples(examples::Args),
    /// Count the instructions of the fast paths under callgrind, and fail if there are more than there were
    Instructions(instructions::Args),
    /// Check the models of the state machines with loom, with or without seeded bugs
    Loom(loom::Args),
    /// Carry published extensions over to this crate, and run their own tests and probes before and after
    Ports(ports::Args),
    /// Print the path of an interpreter, getting it first if this machine has none
    Python(python::Args),
    /// Run the behaviour tests with everything in Rust instrumented by a sanitizer, and fail if that finds something
    Sanitize(sanitize::Args),
    /// Let threads do random things with everything inside real interpreters, for minutes
    Stress(stress::Args),
    /// Run the behaviour tests inside real interpreters and print one table
    Test(test::Args),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Bench(args) => bench::run(args),
        Task::Corpus(args) => corpus::run(args),
        Task::Coverage(args) => coverage::run(args),
        Task::Demo(args) => demo::run(args),
        Task::Examples(args) => examples::run(args),
        Task::Instructions(args) => instructions::run(args),
        Task::Loom(args) => loom::run(args),
        Task::Ports(args) => ports::run(args),
        Task::Python(args) => python::run(args),
        Task::Sanitize(args) => sanitize::run(args),
        Task::Stress(args) => stress::run(args),
        Task::Test(args) => test::run(args),
    }
}
