//! `cargo xtask coverage`: which parts of `src/` the suite has run in any of the interpreters.
//!
//! Each build has code of its own, so what counts is whether a part was run in one of them. The counters are kept in files that the processes
//! share and map into their memory: those that are killed, crash on purpose or leave by `_exit` after a fork count as well.
//!
//! Each interpreter is looked at by itself, and what they covered is put together afterwards, place by place: `llvm-profdata` cannot merge the
//! counters of a function that has another shape in each build.
//!
//! A *region* is what is run together: an arm of a `match`, the way out that a `?` is, one side of `&&`. Regions are finer than lines, so the
//! list is of regions. `docs/coverage.md` says why each of them is not covered.

use std::{
    collections::BTreeMap,
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
    let mut files = Files::new();
    let mut failed = 0;
    for name in args.names() {
        eprintln!("\n=== {name} ===");
        let target = folder.join(&name);
        let profiles = target.join("profiles");
        if profiles.exists() {
            fs::remove_dir_all(&profiles)?;
        }
        let library = build_suite(&name, &rustc, &target)?;
        failed += run_suite(&name, &library, &profiles, &args)?;
        for file in export(&rustc, &target, &library)? {
            let known = files.entry(file.filename.clone()).or_default();
            known.add(&file.segments);
        }
    }
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
}

/// From here to the next one.
#[derive(Clone, Copy, Deserialize)]
struct Segment {
    line: usize,
    column: usize,
    times: u64,
    /// Otherwise there is no code here.
    is_counted: bool,
    begins_region: bool,
    /// Between regions: the space behind an arm of a `match`.
    is_gap: bool,
}

#[derive(Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Deserialize)]
struct Data {
    files: Vec<File>,
}

fn export(rustc: &Rustc, target: &Path, library: &Path) -> anyhow::Result<Vec<File>> {
    let shell = Shell::new()?;
    let profiles = target.join("profiles");
    let merged = target.join("merged.profdata");
    let profdata = rustc.tool("llvm-profdata");
    cmd!(shell, "{profdata} merge --sparse {profiles} -o {merged}").run()?;

    let cov = rustc.tool("llvm-cov");
    let sources = build::workspace().join("src");
    let json = cmd!(
        shell,
        "{cov} export --format=text --skip-functions --instr-profile {merged} {library} {sources}"
    );
    let export: Export =
        serde_json::from_str(&json.quiet().read()?).context("not as llvm-cov writes it")?;
    let files: Vec<File> = export
        .data
        .into_iter()
        .flat_map(|data| data.files)
        .collect();
    ensure!(!files.is_empty(), "nothing of src/ was instrumented");
    Ok(files)
}

type Files = BTreeMap<PathBuf, Coverage>;

/// How often what is in a file was run, in the build where it was run most.
#[derive(Default)]
struct Coverage {
    /// By the line and the column in which they begin.
    regions: BTreeMap<(usize, usize), u64>,
    lines: BTreeMap<usize, u64>,
}

impl Segment {
    fn is_region(&self) -> bool {
        self.is_counted && self.begins_region && !self.is_gap
    }
}

impl Coverage {
    fn add(&mut self, segments: &[Segment]) {
        for segment in segments.iter().filter(|segment| segment.is_region()) {
            let times = self
                .regions
                .entry((segment.line, segment.column))
                .or_default();
            *times = segment.times.max(*times);
        }
        let last = segments.last().map_or(0, |segment| segment.line);
        for line in 1..=last {
            if let Some(times) = times_of_line(segments, line) {
                let most = self.lines.entry(line).or_default();
                *most = times.max(*most);
            }
        }
    }

    fn not_run(&self) -> impl Iterator<Item = (usize, usize)> {
        let regions = self.regions.iter();
        regions.filter_map(|(place, times)| (*times == 0).then_some(*place))
    }
}

/// As `llvm-cov` counts: a line was run as often as the region it begins in, or as one of those that begin in it.
fn times_of_line(segments: &[Segment], line: usize) -> Option<u64> {
    let begin = segments.partition_point(|segment| segment.line < line);
    let end = segments.partition_point(|segment| segment.line <= line);
    let around = segments[..begin]
        .last()
        .filter(|segment| segment.is_counted);
    let inside = segments[begin..end]
        .iter()
        .filter(|segment| segment.is_region());
    around
        .into_iter()
        .chain(inside)
        .map(|segment| segment.times)
        .max()
}

fn report(files: &Files) -> anyhow::Result<String> {
    let mut report = format!("{}\n", table(files));
    for (path, coverage) in files {
        let text = fs::read_to_string(path)?;
        let code: Vec<&str> = text.lines().collect();
        let mut columns = BTreeMap::<usize, Vec<String>>::new();
        for (line, column) in coverage.not_run() {
            columns.entry(line).or_default().push(column.to_string());
        }
        if !columns.is_empty() {
            writeln!(report, "\n{}:", name(path))?;
        }
        for (line, columns) in columns {
            let code = code.get(line - 1).copied().unwrap_or("");
            writeln!(report, "  {line}:{}: {}", columns.join(","), code.trim())?;
        }
    }
    Ok(report)
}

fn table(files: &Files) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["file", "lines", "regions"]);
    let (mut all_lines, mut all_regions) = (Vec::new(), Vec::new());
    for (path, Coverage { lines, regions }) in files {
        let lines: Vec<u64> = lines.values().copied().collect();
        let regions: Vec<u64> = regions.values().copied().collect();
        table.add_row([name(path), share(&lines), share(&regions)]);
        all_lines.extend(lines);
        all_regions.extend(regions);
    }
    table.add_row(["all".to_owned(), share(&all_lines), share(&all_regions)]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// How many were run.
fn share(times: &[u64]) -> String {
    let run = times.iter().filter(|times| **times > 0).count();
    let percent = 100.0 * run as f64 / times.len().max(1) as f64;
    format!("{run} of {}, {percent:.1} %", times.len())
}

fn name(path: &Path) -> String {
    let sources = build::workspace().join("src");
    path.strip_prefix(sources)
        .unwrap_or(path)
        .display()
        .to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `[line, column, times, is_counted, begins_region, is_gap]`
    fn segments(json: &str) -> Vec<Segment> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_one_build_has_run_is_covered() {
        let mut coverage = Coverage::default();
        // A function of three lines whose second line has a region that one build does not run, and the other does.
        coverage.add(&segments(
            "[[1,1,5,true,true,false],[2,9,0,true,true,false],[2,12,5,true,false,false],[3,2,0,false,false,false]]",
        ));
        assert_eq!(coverage.not_run().collect::<Vec<_>>(), [(2, 9)]);
        assert_eq!(coverage.lines, BTreeMap::from([(1, 5), (2, 5), (3, 5)]));
        coverage.add(&segments(
            "[[2,9,1,true,true,false],[2,12,0,false,false,false]]",
        ));
        assert_eq!(coverage.not_run().count(), 0);
    }

    #[test]
    fn a_line_that_no_build_has_run_is_not_covered() {
        let mut coverage = Coverage::default();
        for _ in 0..2 {
            coverage.add(&segments(
                "[[1,1,0,true,true,false],[2,2,0,false,false,false]]",
            ));
        }
        assert_eq!(coverage.lines, BTreeMap::from([(1, 0), (2, 0)]));
        assert_eq!(coverage.not_run().collect::<Vec<_>>(), [(1, 1)]);
    }
}
