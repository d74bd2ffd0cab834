//! `cargo xtask sanitize`: the suite inside interpreters, with everything in Rust, `std` too, instrumented by a sanitizer of LLVM.
//!
//! That takes a compiler which has the source of `std` beside it, so that it can be built anew, and clang of the same LLVM for the run-time
//! library. The interpreter stays what it is; the library is loaded before it. What it does is therefore seen only where it calls libc, and
//! what its own locks order is not seen at all: `tests/sanitizers` tells the sanitizers as much of it as they need to know.
//!
//! Findings do not go to the terminal, where a process that is meant to crash would lose them, but to a file for each process. Whatever
//! became of the tests, a finding is a failure. So that silence means something, each run begins with a fault (`faults.rs` of the suite)
//! that has to be found.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use suite_runner::{Arguments, Launcher};
use xshell::{Shell, cmd};

use crate::{
    build::{self, Compiler, ExtensionModule},
    llvm::Rustc,
    python::{self, Interpreter},
    test,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to look for: data races, or memory that is used after it was freed (and, with a GIL, never freed)
    sanitizer: Sanitizer,

    /// Where to run, may be repeated; unless told, 3.14t, and for `address` 3.14 too
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Instead of the tests, one round of the stress test, of this length
    #[arg(long, value_name = "SECONDS")]
    stress: Option<f64>,

    /// Run only the tests whose name contains this
    filter: Option<String>,

    /// Passed on to the test runner: `-- --test-threads 1`, `-- --help`
    #[arg(last = true)]
    libtest: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sanitizer {
    Address,
    Thread,
}

/// The tools that belong together, and where they were found.
struct Tools {
    rustc: Rustc,
    clang: PathBuf,
    /// The library to load before the interpreter.
    runtime: PathBuf,
    symbolizer: String,
}

/// What the extension module calls that orders what threads do, as far as the sanitizer has to be told: the functions that
/// `critical_sections.c` wraps.
const WRAPPED: [&str; 18] = [
    "PyCriticalSection_Begin",
    "PyCriticalSection_BeginMutex",
    "PyCriticalSection_End",
    "PyCriticalSection2_Begin",
    "PyCriticalSection2_BeginMutex",
    "PyCriticalSection2_End",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyEval_EvalCode",
    "PyImport_Import",
    "PyObject_CallNoArgs",
    "PyObject_CallOneArg",
    "PyObject_GetAttr",
    "PyObject_GetItem",
    "PyObject_SetItem",
    "PyObject_Vectorcall",
    "PyObject_VectorcallMethod",
    "_Py_DecRef",
];

/// For a fault that is committed on purpose, in an interpreter that is slowed down.
const FAULT_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let tools = Tools::find(args.sanitizer)?;
    println!(
        "{} and {}",
        tools.rustc.path.display(),
        tools.runtime.display()
    );
    let mut wrong = Vec::new();
    for name in args.names() {
        eprintln!("\n=== {name}, {} sanitizer ===", args.sanitizer.name());
        let failures =
            run_in(&name, &args, &tools).with_context(|| format!("nothing was run in {name}"))?;
        if failures > 0 {
            wrong.push(name);
        }
    }
    ensure!(wrong.is_empty(), "it went wrong in {}", wrong.join(", "));
    Ok(())
}

/// Returns the number of tests that failed and of findings.
fn run_in(name: &str, args: &Args, tools: &Tools) -> anyhow::Result<usize> {
    let interpreter = python::find(name)?;
    let target = build::target()?
        .join("sanitize")
        .join(format!("{}-{name}", args.sanitizer.name()));
    let modules = build_suite(&interpreter, args.sanitizer, tools, &target)?;
    let reports = target.join("reports");
    if reports.exists() {
        fs::remove_dir_all(&reports)?;
    }
    fs::create_dir_all(&reports)?;
    let launcher = launcher(&interpreter, args.sanitizer, tools, &modules, &reports);

    for fault in args.sanitizer.faults(&interpreter) {
        expect_a_finding(&launcher, fault, &reports)?;
    }
    let failed = match args.stress {
        Some(seconds) => stress(&launcher, seconds)?,
        None => suite_runner::run(&launcher, &args.for_the_runner())?
            .failed
            .len(),
    };
    let findings = findings(&reports)?;
    print_findings(&findings);
    println!(
        "test result: {}. 0 passed; {} failed; 0 ignored; [{name}, findings of the {} sanitizer]",
        if findings.is_empty() { "ok" } else { "FAILED" },
        findings.len(),
        args.sanitizer.name(),
    );
    Ok(failed + findings.len())
}

fn build_suite(
    interpreter: &Interpreter,
    sanitizer: Sanitizer,
    tools: &Tools,
    target: &Path,
) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(target)?;
    let mut rust_flags = format!("-Zsanitizer={} -Zexternal-clangrt", sanitizer.name());
    if let Sanitizer::Thread = sanitizer {
        let object = target.join("critical_sections.o");
        let source = source("critical_sections.c");
        let clang = &tools.clang;
        let shell = Shell::new()?;
        cmd!(
            shell,
            "{clang} -O1 -fPIC -Wall -Wextra -Werror -c {source} -o {object}"
        )
        .run()?;
        rust_flags += &format!(" -Clink-arg={}", object.display());
        for function in WRAPPED {
            rust_flags += &format!(" -Clink-arg=-Wl,--wrap={function}");
        }
    }
    let compiler = Compiler {
        environment: vec![
            ("RUSTC", tools.rustc.path.clone().into()),
            // What follows is not stable, and the compiler need not be a nightly one.
            ("RUSTC_BOOTSTRAP", "1".into()),
            ("CARGO_UNSTABLE_BUILD_STD", "std,panic_unwind".into()),
            ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only".into()),
        ],
        triple: Some(tools.rustc.triple.clone()),
    };
    ExtensionModule {
        workspace: &build::workspace(),
        package: "pyo3-sync-suite",
        interpreter: &interpreter.path,
        target,
        optimised: false,
        features: &[],
        rust_flags: &rust_flags,
    }
    .build_with(&compiler)
}

fn launcher(
    interpreter: &Interpreter,
    sanitizer: Sanitizer,
    tools: &Tools,
    modules: &Path,
    reports: &Path,
) -> Launcher {
    let mut options = format!(
        "log_path={} external_symbolizer_path={} exitcode=0 ",
        reports.join("report").display(),
        tools.symbolizer
    );
    let variable = match sanitizer {
        Sanitizer::Thread => {
            options += &format!(
                "die_after_fork=0 suppressions={}",
                source("thread.supp").display()
            );
            "TSAN_OPTIONS"
        }
        Sanitizer::Address => {
            let leaks = i32::from(sees_leaks(interpreter));
            options += &format!("detect_leaks={leaks} detect_stack_use_after_return=1");
            "ASAN_OPTIONS"
        }
    };
    let launcher = test::launcher(&interpreter.name, &interpreter.path, modules)
        .environment("LD_PRELOAD", &tools.runtime)
        .environment(variable, options)
        .environment(
            "LSAN_OPTIONS",
            format!(
                "print_suppressions=0 suppressions={}",
                source("leak.supp").display()
            ),
        )
        .environment("PYO3_SYNC_SUITE_SANITIZER", sanitizer.name());
    if interpreter.free_threaded {
        launcher // It has one allocator for objects, its own.
    } else {
        // So that objects of Python, too, are memory that the sanitizer knows.
        launcher.environment("PYTHONMALLOC", "malloc")
    }
}

/// Whether memory that nobody can reach is told from memory that only objects of Python refer to: those of a free-threaded interpreter are in memory
/// that the sanitizer does not know.
fn sees_leaks(interpreter: &Interpreter) -> bool {
    !interpreter.free_threaded
}

/// Makes sure that a fault is found, and forgets that one.
fn expect_a_finding(launcher: &Launcher, fault: &str, reports: &Path) -> anyhow::Result<()> {
    let words = ["fault".to_owned(), fault.to_owned()];
    let outcome = suite_runner::run_once(launcher, &words, FAULT_LIMIT)?;
    let found = findings(reports)?;
    ensure!(
        found.keys().any(|finding| finding.contains("faults.rs")),
        "a fault that was made on purpose is not found: {fault}\n{}",
        outcome.output
    );
    for report in fs::read_dir(reports)? {
        fs::remove_file(report?.path())?;
    }
    Ok(())
}

/// Returns how many rounds failed: one or none.
fn stress(launcher: &Launcher, seconds: f64) -> anyhow::Result<usize> {
    let length = Duration::from_secs_f64(seconds);
    let seed = "1".to_owned();
    let words = ["stress".to_owned(), seed, length.as_millis().to_string()];
    let outcome = suite_runner::run_once(launcher, &words, length * 2 + Duration::from_secs(120))?;
    println!("{}", outcome.output);
    Ok(usize::from(outcome.failure.is_some()))
}

/// What reports have in common, in one line, and those reports.
type Findings = BTreeMap<String, Vec<String>>;

fn findings(reports: &Path) -> anyhow::Result<Findings> {
    let mut findings = Findings::new();
    for entry in fs::read_dir(reports)? {
        let bytes = fs::read(entry?.path())?;
        for (summary, report) in split(&String::from_utf8_lossy(&bytes)) {
            findings.entry(summary).or_default().push(report);
        }
    }
    Ok(findings)
}

/// Takes what a process has written apart into reports, each of which ends with a summary. What has none is a report as well.
fn split(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut report = String::new();
    for line in text.lines() {
        report += line;
        report += "\n";
        if let Some(summary) = line.strip_prefix("SUMMARY: ") {
            // It names the place, which is often somewhere in `core`.
            let ours = report.lines().find(|line| is_ours(line)).unwrap_or(summary);
            found.push((ours.trim().to_owned(), std::mem::take(&mut report)));
        }
    }
    let is_said = |line: &&str| line.contains(|letter| letter != '=');
    let rest = report
        .lines()
        .filter(is_said)
        .collect::<Vec<_>>()
        .join("\n");
    // At its end a process says how many there were.
    if !rest.is_empty() && !rest.starts_with("ThreadSanitizer: reported") {
        let first_line = rest.lines().next().unwrap_or_default().to_owned();
        found.push((first_line, rest));
    }
    found
}

/// Whether a line is a frame of a stack that is in this workspace.
fn is_ours(line: &str) -> bool {
    let workspace = build::workspace();
    line.contains(&*workspace.to_string_lossy()) && line.contains(".rs:")
}

fn print_findings(findings: &Findings) {
    for (summary, reports) in findings {
        println!("\n{} times: {summary}\n{}", reports.len(), reports[0]);
    }
}

/// A file beside the tests.
fn source(name: &str) -> PathBuf {
    build::workspace().join("tests/sanitizers").join(name)
}

impl Args {
    fn names(&self) -> Vec<String> {
        if !self.interpreters.is_empty() {
            return self.interpreters.clone();
        }
        let names: &[&str] = match self.sanitizer {
            Sanitizer::Thread => &["3.14t"],
            Sanitizer::Address => &["3.14", "3.14t"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn for_the_runner(&self) -> Arguments {
        let program = "cargo xtask sanitize --".to_owned();
        Arguments::from_iter([program].iter().chain(&self.filter).chain(&self.libtest))
    }
}

impl Sanitizer {
    /// What compilers call it.
    fn name(self) -> String {
        match self {
            Sanitizer::Address => "address".to_owned(),
            Sanitizer::Thread => "thread".to_owned(),
        }
    }

    /// What it has to find.
    fn faults(self, interpreter: &Interpreter) -> &'static [&'static str] {
        match self {
            Sanitizer::Thread => &["data race"],
            Sanitizer::Address if sees_leaks(interpreter) => &["use after free", "leak"],
            Sanitizer::Address => &["use after free"],
        }
    }

    fn runtime(self) -> &'static str {
        match self {
            Sanitizer::Address => "asan",
            Sanitizer::Thread => "tsan",
        }
    }
}

impl Tools {
    fn find(sanitizer: Sanitizer) -> anyhow::Result<Self> {
        let shell = Shell::new()?;
        let rustc = compilers(&shell)
            .into_iter()
            .filter_map(|path| Rustc::inspect(path).ok())
            .find(|rustc| rustc.sysroot.join("lib/rustlib/src/rust/library/std").is_dir())
            .context(
                "no compiler has the source of std beside it: install the component `rust-src` of a nightly toolchain, or where Debian has \
                 one that is not too old its packages rustc-web and rust-web-src",
            )?;
        let architecture = rustc
            .triple
            .split('-')
            .next()
            .expect("text has a first part");
        let kind = sanitizer.runtime();
        let names = [
            format!("libclang_rt.{kind}-{architecture}.so"),
            format!("libclang_rt.{kind}.so"),
        ];
        let clang = rustc.tool("clang");
        let runtime = names.iter().find_map(|name| {
            let path = cmd!(shell, "{clang} -print-file-name={name}").quiet();
            let path = PathBuf::from(path.read().ok()?);
            path.is_absolute().then_some(path)
        });
        let runtime = runtime.with_context(|| {
            let llvm = rustc.llvm;
            format!("no clang {llvm} with its run-time libraries, which Debian has in clang-{llvm} and libclang-rt-{llvm}-dev")
        })?;
        let symbolizer = cmd!(shell, "{clang} -print-prog-name=llvm-symbolizer").read()?;
        Ok(Tools {
            rustc,
            clang,
            runtime,
            symbolizer,
        })
    }
}

/// The compilers of this machine: rustup's nightly, and whatever is on the path.
fn compilers(shell: &Shell) -> Vec<PathBuf> {
    let nightly = cmd!(shell, "rustup which --toolchain nightly rustc")
        .ignore_stderr()
        .quiet();
    let nightly = nightly.read().ok().map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("rustc"));
    nightly.into_iter().chain(on_path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart() {
        let text = "=====\nWARNING: one\n  #0 here\nSUMMARY: a race\n=====\n=====\nWARNING: two\nSUMMARY: another\n\
            ThreadSanitizer: reported 2 warnings\n";
        let found = split(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].0, "a race");
        assert!(found[0].1.contains("#0 here") && !found[0].1.contains("two"));
        assert_eq!(found[1].0, "another");
    }

    #[test]
    fn what_a_sanitizer_says_besides_is_a_finding() {
        let found = split("==7==FATAL: cannot map its memory\nat all\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "==7==FATAL: cannot map its memory");
        assert!(split("").is_empty());
    }
}
