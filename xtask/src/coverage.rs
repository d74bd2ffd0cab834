//! `cargo xtask coverage`: which parts of `src/` the suite has run in any of the interpreters.
//!
//! Each build has code of its own, so what counts is whether a part was run in one of them. The counters are kept in files that the processes
//! share and map into their memory: those that are killed, crash on purpose or leave by `_exit` after a fork count as well.
//!
//! A *region* is what is run together: an arm of a `match`, the way out that a `?` is, one side of `&&`. Regions are finer than lines, so the
//! list is of regions. `docs/coverage.md` says why each of them is not covered.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Deserialize;
use suite_runner::Arguments;
use xshell::{Shell, cmd};

use crate::{
    build::{self, Compiler, ExtensionModule},
    llvm::Rustc,
    python, test,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to run, may be repeated; unless told, python3, 3.14, 3.14t and 3.15t
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Run only the tests whose name contains this
    filter: Option<String>,

    /// Passed on to the test runner: `-- --test-threads 1`, `-- --help`
    #[arg(last = true)]
    libtest: Vec<String>,
}

const INTERPRETERS: [&str; 4] = ["python3", "3.14", "3.14t", "3.15t"];

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let rustc = Rustc::inspect("rustc".into())?;
    let folder = build::target()?.join("coverage");
    let profiles = folder.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles)?;
    }
    let mut libraries = Vec::new();
    let mut failed = 0;
    for name in args.names() {
        eprintln!("\n=== {name} ===");
        let library = build_suite(&name, &rustc, &folder.join(&name))?;
        failed += run_suite(&name, &library, &profiles.join(&name), &args)?;
        libraries.push(library);
    }
    let files = export(&rustc, &folder, &profiles, &libraries)?;
    let report = report(&files)?;
    let path = folder.join("report.md");
    fs::write(&path, &report)?;
    println!("{report}\nalso in {}", path.display());
    ensure!(failed == 0, "{failed} tests have failed");
    Ok(())
}

/// Returns the extension module.
fn build_suite(name: &str, rustc: &Rustc, target: &Path) -> anyhow::Result<PathBuf> {
    let compiler = Compiler {
        // Named, so that build scripts are not instrumented.
        triple: Some(rustc.triple.clone()),
        environment: vec![("CARGO_PROFILE_DEV_DEBUG", "line-tables-only".into())],
    };
    let modules = ExtensionModule {
        workspace: &build::workspace(),
        package: "pyo3-sync-suite",
        interpreter: &python::find(name)?.path,
        target,
        optimised: false,
        features: &[],
        rust_flags: "-Cinstrument-coverage -Cllvm-args=-runtime-counter-relocation",
    }
    .build_with(&compiler)?;
    Ok(modules.join("pyo3_sync_suite.so"))
}

/// Returns how many tests failed.
fn run_suite(name: &str, library: &Path, profiles: &Path, args: &Args) -> anyhow::Result<usize> {
    fs::create_dir_all(profiles)?;
    let interpreter = python::find(name)?;
    let modules = library.parent().expect("a file is in a folder");
    // %m: one file for each library, however many processes; %c: mapped into their memory.
    let launcher = test::launcher(name, &interpreter.path, modules)
        .environment("LLVM_PROFILE_FILE", profiles.join("%m%c.profraw"));
    Ok(suite_runner::run(&launcher, &args.for_the_runner())?
        .failed
        .len())
}

/// A file of `src/`, as `llvm-cov` describes it.
#[derive(Deserialize)]
struct File {
    filename: PathBuf,
    segments: Vec<Segment>,
    summary: Summary,
}

/// Line, column, how often it was run, whether that is known, whether a region begins here, whether it is a gap between regions.
#[derive(Deserialize)]
struct Segment(usize, usize, u64, bool, bool, bool);

#[derive(Deserialize)]
struct Summary {
    lines: Count,
    regions: Count,
    functions: Count,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct Count {
    count: u64,
    covered: u64,
}

#[derive(Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Deserialize)]
struct Data {
    files: Vec<File>,
}

fn export(
    rustc: &Rustc,
    folder: &Path,
    profiles: &Path,
    libraries: &[PathBuf],
) -> anyhow::Result<Vec<File>> {
    let shell = Shell::new()?;
    let merged = folder.join("all.profdata");
    let profdata = rustc.tool("llvm-profdata");
    cmd!(shell, "{profdata} merge --sparse {profiles} -o {merged}").run()?;

    let cov = rustc.tool("llvm-cov");
    let sources = build::workspace().join("src");
    let (first, others) = libraries.split_first().context("no interpreter is named")?;
    let others = others
        .iter()
        .flat_map(|library| ["--object".as_ref(), library.as_os_str()]);
    let json = cmd!(
        shell,
        "{cov} export --format=text --skip-functions --instr-profile {merged} {first} {others...} {sources}"
    );
    let export: Export =
        serde_json::from_str(&json.read()?).context("not as llvm-cov writes it")?;
    let mut files: Vec<File> = export
        .data
        .into_iter()
        .flat_map(|data| data.files)
        .collect();
    ensure!(!files.is_empty(), "nothing of src/ was instrumented");
    files.sort_by(|a, b| a.filename.cmp(&b.filename));
    Ok(files)
}

impl File {
    /// Where regions begin that were never run.
    fn not_run(&self) -> impl Iterator<Item = (usize, usize)> {
        let regions = self.segments.iter();
        regions.filter_map(|&Segment(line, column, count, known, begins, is_gap)| {
            (count == 0 && known && begins && !is_gap).then_some((line, column))
        })
    }

    fn name(&self) -> String {
        let sources = build::workspace().join("src");
        let name = self.filename.strip_prefix(sources);
        name.unwrap_or(&self.filename).display().to_string()
    }
}

fn report(files: &[File]) -> anyhow::Result<String> {
    let mut report = format!("{}\n", table(files));
    for file in files {
        let text = fs::read_to_string(&file.filename)?;
        let lines: Vec<&str> = text.lines().collect();
        let mut not_run: Vec<_> = file.not_run().collect();
        not_run.dedup();
        if not_run.is_empty() {
            continue;
        }
        writeln!(report, "\n{}:", file.name())?;
        for (line, column) in not_run {
            let code = lines.get(line - 1).copied().unwrap_or("");
            writeln!(report, "  {line}:{column}: {}", code.trim())?;
        }
    }
    Ok(report)
}

fn table(files: &[File]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["file", "lines", "regions", "functions"]);
    let mut total: [Count; 3] = Default::default();
    for file in files {
        let Summary {
            lines,
            regions,
            functions,
        } = &file.summary;
        let counts = [lines, regions, functions];
        for (total, count) in total.iter_mut().zip(counts) {
            total.count += count.count;
            total.covered += count.covered;
        }
        table.add_row([vec![file.name()], counts.map(Count::show).to_vec()].concat());
    }
    table.add_row(
        [
            vec!["all".to_owned()],
            total.each_ref().map(Count::show).to_vec(),
        ]
        .concat(),
    );
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl Count {
    fn show(&self) -> String {
        let Count { count, covered } = *self;
        let percent = if count == 0 {
            100.0
        } else {
            100.0 * covered as f64 / count as f64
        };
        format!("{covered} of {count}, {percent:.1} %")
    }
}

impl Args {
    fn names(&self) -> Vec<String> {
        if !self.interpreters.is_empty() {
            return self.interpreters.clone();
        }
        INTERPRETERS.map(str::to_owned).to_vec()
    }

    fn for_the_runner(&self) -> Arguments {
        let program = "cargo xtask coverage --".to_owned();
        Arguments::from_iter([program].iter().chain(&self.filter).chain(&self.libtest))
    }
}
