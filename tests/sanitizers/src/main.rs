//! `cargo sanitize`: the suite inside interpreters, with all Rust code, `std` included,
//! instrumented by a sanitizer of LLVM.
//!
//! `-Zsanitizer` does this for executables. Here the instrumented code is an extension module, so
//! that the run-time library of the sanitizer is loaded before the interpreter. This needs a
//! compiler with the source of `std` and clang of the same LLVM. The interpreter is not
//! instrumented: its memory accesses are seen where it calls libc only, and what its locks order is
//! not seen. The C file and the suppressions of this package describe these locks.
//!
//! Findings go to a file for each process, because a process that crashes on purpose would lose
//! them. A finding is a failure, whether the test passed or not. Each run begins with a fault
//! (`faults.rs` of the suite) that the sanitizer must find.

mod rustc;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use pythons::{
    Interpreter,
    build::{self, Compiler, ExtensionModule},
};
use rustc::Rustc;
use suite_runner::{Arguments, Launcher};
use xshell::{Shell, cmd};

/// Run the behavior tests with all Rust code instrumented by a sanitizer; fail if it finds a fault
#[derive(Parser)]
#[command(bin_name = "cargo sanitize")]
struct Args {
    /// The sanitizer: `thread` for data races, `address` for uses after free and, with a GIL, leaks
    sanitizer: Sanitizer,

    /// Run in this interpreter; may be repeated; 3.14t by default, and 3.14 too for `address`
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Run one round of the stress test of this duration instead of the tests
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

/// Paths of the tools, which must be of one version of LLVM.
struct Tools {
    rustc: Rustc,
    clang: PathBuf,
    /// The library that is loaded before the interpreter.
    runtime: PathBuf,
    symbolizer: String,
}

/// The functions that `critical_sections.c` wraps to tell the sanitizer how they order threads.
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

/// Limit for a fault that is committed on purpose.
const FAULT_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    pythons::exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
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
    ensure!(
        wrong.is_empty(),
        "tests failed or faults were found in {}",
        wrong.join(", ")
    );
    Ok(())
}

/// Returns the number of tests that failed and of findings.
fn run_in(name: &str, args: &Args, tools: &Tools) -> anyhow::Result<usize> {
    let interpreter = pythons::find(name)?;
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
            // The options are unstable. The compiler need not be a nightly one.
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
        optimized: false,
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
    let launcher = Launcher::suite(&interpreter.name, &interpreter.path, modules)
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
        launcher // A free-threaded build has its own allocator only.
    } else {
        // Makes the memory of Python objects known to the sanitizer.
        launcher.environment("PYTHONMALLOC", "malloc")
    }
}

/// Returns whether leaks can be told from memory that only Python objects refer to. The objects of
/// a free-threaded interpreter are in memory that the sanitizer does not know.
fn sees_leaks(interpreter: &Interpreter) -> bool {
    !interpreter.free_threaded
}

/// Checks that a fault is found, and removes the finding.
fn expect_a_finding(launcher: &Launcher, fault: &str, reports: &Path) -> anyhow::Result<()> {
    let words = ["fault".to_owned(), fault.to_owned()];
    let outcome = suite_runner::run_once(launcher, &words, FAULT_LIMIT)?;
    let found = findings(reports)?;
    ensure!(
        found.keys().any(|finding| finding.contains("faults.rs")),
        "the sanitizer did not find a fault made on purpose: {fault}\n{}",
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

/// Reports by the line that they have in common.
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

/// Splits the output of a process into reports, each of which ends with a summary. Text after the
/// last summary is a report too.
fn split(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut report = String::new();
    for line in text.lines() {
        report += line;
        report += "\n";
        if let Some(summary) = line.strip_prefix("SUMMARY: ") {
            // The summary often names a place in `core`.
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
    // The last line of a process is the number of reports.
    if !rest.is_empty() && !rest.starts_with("ThreadSanitizer: reported") {
        let first_line = rest.lines().next().unwrap_or_default().to_owned();
        found.push((first_line, rest));
    }
    found
}

/// Returns whether a line is a stack frame in this workspace.
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
        let program = "cargo sanitize --".to_owned();
        Arguments::from_iter([program].iter().chain(&self.filter).chain(&self.libtest))
    }
}

impl Sanitizer {
    /// The name that compilers use.
    fn name(self) -> String {
        match self {
            Sanitizer::Address => "address".to_owned(),
            Sanitizer::Thread => "thread".to_owned(),
        }
    }

    /// The faults that it must find.
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
            .find(|rustc| {
                rustc
                    .sysroot
                    .join("lib/rustlib/src/rust/library/std")
                    .is_dir()
            })
            .context(
                "no compiler has the source of std: install the component rust-src of a nightly \
                 toolchain, or Debian's packages rustc-web and rust-web-src",
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
            format!(
                "no clang {llvm} with its run-time libraries: on Debian, install clang-{llvm} and \
                 libclang-rt-{llvm}-dev"
            )
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

/// Returns the compilers of this machine: rustup's nightly, and those on `PATH`.
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
        let text = "=====\nWARNING: one\n  #0 here\nSUMMARY: a race\n=====\n\
                    =====\nWARNING: two\nSUMMARY: another\n\
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
