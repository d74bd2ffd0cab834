//! `cargo xtask test`: the suite inside each interpreter, and one table of the results.
//!
//! For each interpreter the suite is built as an extension module, and `suite_runner` runs its
//! tests, each in a process of its own. If an interpreter is missing, the others are tested and the
//! task fails: a run that leaves out the free-threaded builds must not pass for a complete one.

mod cells;
mod checks;
mod matrix;
mod report;
mod workspace;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use suite_runner::{Arguments, Launcher, Summary};

use pythons::Interpreter;
use pythons::build::ExtensionModule;
use workspace::{Dependencies, Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run in this interpreter: `3.14t` and so on, or `python3` for the machine's own; may be
    /// repeated; all by default
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Build with optimizations
    #[arg(long)]
    release: bool,

    /// The version of PyO3 to build with, such as 0.26.0; that of Cargo.lock by default
    #[arg(long, value_name = "VERSION")]
    pyo3: Option<String>,

    /// Build with the newest versions of all dependencies, instead of those of Cargo.lock
    #[arg(long, conflicts_with = "pyo3")]
    newest: bool,

    /// A feature to build with: `pyo3/abi3-py39` for an extension that loads in all later versions,
    /// `pyo3/abi3t-py315` for one that loads in free-threaded ones too; may be repeated
    #[arg(long, value_name = "FEATURE")]
    features: Vec<String>,

    /// Run in every supported build, or compile for it: one table, also in target/matrix.md
    #[arg(long, conflicts_with_all = ["interpreters", "release", "pyo3", "newest", "features"])]
    matrix: bool,

    /// Of the matrix, only the cells that run on every submission; the table names the others
    #[arg(long, requires = "matrix")]
    fast: bool,

    /// Of the matrix, only builds with this in their name, such as `PyO3 0.27` or `windows`; may be
    /// repeated
    #[arg(long = "cell", value_name = "TEXT", requires = "matrix")]
    cells: Vec<String>,

    /// Run only the tests whose name contains this
    filter: Option<String>,

    /// Passed on to the test runner: `-- --test-threads 1`, `-- --help`
    #[arg(last = true)]
    libtest: Vec<String>,
}

/// The result of the suite in one interpreter; an error means that the suite did not run.
struct Run {
    interpreter: String,
    result: anyhow::Result<Summary>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.matrix {
        return matrix::run(&args);
    }
    let arguments = args.for_the_runner();
    let workspace = Workspace::new(args.dependencies())?;
    let runs: Vec<Run> = args
        .names()
        .into_iter()
        .map(|interpreter| Run {
            result: run_in(&interpreter, &workspace, &args, &arguments),
            interpreter,
        })
        .collect();
    if arguments.list {
        return Ok(());
    }

    print!("{}", report::report(&runs));
    let failed = runs.iter().filter(|run| !run.succeeded()).count();
    ensure!(
        failed == 0,
        "the suite did not pass in {failed} of {} interpreters",
        runs.len()
    );
    ensure!(
        runs.iter().any(Run::ran_something),
        "no test was run: does the filter match one?"
    );
    Ok(())
}

fn run_in(
    name: &str,
    workspace: &Workspace,
    args: &Args,
    arguments: &Arguments,
) -> anyhow::Result<Summary> {
    eprintln!("\n=== {name} ===");
    let result = pythons::find(name)
        .with_context(|| format!("there is no Python {name}"))
        .and_then(|interpreter| {
            let build = Build {
                workspace,
                release: args.release,
                features: &args.features,
                rust_flags: "",
            };
            let modules = build.for_interpreter(&interpreter)?;
            let launcher = Launcher::suite(name, &interpreter.path, &modules);
            suite_runner::run(&launcher, arguments)
        });
    if let Err(error) = &result {
        eprintln!("{error:#}");
    }
    result
}

/// The options of a build of the suite.
struct Build<'a> {
    workspace: &'a Workspace,
    release: bool,
    features: &'a [String],
    rust_flags: &'a str,
}

impl Build<'_> {
    /// Builds the suite and returns the folder of its module.
    fn for_interpreter(&self, interpreter: &Interpreter) -> anyhow::Result<PathBuf> {
        // Each set of features and flags has a folder of its own, too.
        let features = self.features.iter().map(String::as_str);
        let target = [interpreter.name.as_str()].into_iter().chain(features);
        let target = target.chain(
            self.rust_flags
                .split_whitespace()
                .filter(|flag| *flag != "--cfg"),
        );
        let target = target.collect::<Vec<_>>().join("+").replace('/', "-");
        ExtensionModule {
            workspace: &self.workspace.root,
            package: "pyo3-sync-suite",
            interpreter: &interpreter.path,
            target: &self.workspace.target.join(target),
            optimized: self.release,
            features: self.features,
            rust_flags: self.rust_flags,
        }
        .build()
    }
}

impl Args {
    fn names(&self) -> Vec<String> {
        if !self.interpreters.is_empty() {
            return self.interpreters.clone();
        }
        let all = ["python3"].into_iter().chain(pythons::WANTED);
        all.map(str::to_owned).collect()
    }

    fn dependencies(&self) -> Dependencies<'_> {
        match &self.pyo3 {
            _ if self.newest => Dependencies::Newest,
            Some(version) => Dependencies::PyO3(version),
            None => Dependencies::Locked,
        }
    }

    fn for_the_runner(&self) -> Arguments {
        let program = "cargo xtask test --".to_owned();
        Arguments::from_iter([program].iter().chain(&self.filter).chain(&self.libtest))
    }
}

impl Run {
    fn succeeded(&self) -> bool {
        self.result
            .as_ref()
            .is_ok_and(|summary| summary.failed.is_empty())
    }

    fn ran_something(&self) -> bool {
        self.result.as_ref().is_ok_and(|summary| summary.passed > 0)
    }
}
