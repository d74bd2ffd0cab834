//! `cargo ports`: published extensions ported to this crate, tested before and after.
//!
//! For each port in `ports/src/list.rs` and each interpreter:
//!
//! 1. The extension is fetched by name and version, a source distribution with pip and a crate with
//!    cargo. None of it is committed; everything is under `target/ports`.
//! 2. It is laid out twice, in its original form and with the changes of the port: the dependency,
//!    the `use` lines, and in one port the types that PyO3 has removed. A change that does not
//!    match exactly one place is an error.
//! 3. Both are built and run the extension's own tests. On a free-threaded build several threads
//!    run each test at once.
//! 4. Both run [probes](probe): new processes in which eight threads make the first use at once.
//!
//! One table shows the results. The program fails if a test fails only after the port, if a test is
//! missing, or if a probe of a ported extension fails.
//!
//! # Would the probes find a bug?
//!
//! With `--break` the ports are built against a [broken](BREAKS) copy of this crate, in which a
//! waiting thread stays attached and an import holds its cell. The probes must hang: the program
//! fails if those of one port do not. The suites run too, and mostly pass.

mod list;
mod probe;
mod report;
mod sources;
mod suite;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, ensure};
use clap::{Parser, builder::PossibleValuesParser};
use list::{Change, PORTS, Port};
use pythons::{
    Interpreter,
    build::{ExtensionModule, MODULE_SUFFIX, replace, workspace},
};

/// The machine's own, and one without a GIL.
const INTERPRETERS: [&str; 2] = ["python3", "3.14t"];

/// The changes that `--break` makes in the copy of this crate.
const BREAKS: [Change; 3] = [
    // A thread that waits stays attached.
    Change {
        file: "src/python.rs",
        from: "    let _attach = Attach(unsafe { ffi::PyEval_SaveThread() });\n",
        to: "    let _ = || Attach(unsafe { ffi::PyEval_SaveThread() });\n",
    },
    // Nor does it run Python code periodically, which would release a GIL.
    Change {
        file: "src/wait/mod.rs",
        from: "const IMPORT_POLL_INTERVAL: Duration = Duration::from_millis(300);",
        to: "const IMPORT_POLL_INTERVAL: Duration = Duration::from_secs(3600);",
    },
    // An import is an initializer like any other. In the crate, no thread waits for an import.
    Change {
        file: "src/once_lock.rs",
        from: "        let attribute = retry_import(py, || py.import(module_name)?.getattr(attr_name))?;
        let object = attribute.cast_into::<T>()?.unbind();
        Ok(self.get_or_insert(py, object).bind(py))
",
        to: "        let object = self.get_or_try_init(py, || {
            let attribute = retry_import(py, || py.import(module_name)?.getattr(attr_name))?;
            PyResult::Ok(attribute.cast_into::<T>()?.unbind())
        })?;
        Ok(object.bind(py))
",
    },
];

/// Number of broken probes that run at once. They hang, and need no processor.
const BROKEN_AT_A_TIME: usize = 10;

/// Port published extensions to this crate, and run their own tests and probes before and after
#[derive(Parser)]
#[command(bin_name = "cargo ports")]
struct Args {
    /// Run in this interpreter: `3.14t` and so on, or `python3` for the machine's own; may be
    /// repeated; python3 and 3.14t by default
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Build against a broken copy of this crate; fail unless the probes hang
    #[arg(long = "break")]
    broken: bool,

    /// Only this port; may be repeated
    #[arg(value_name = "PORT", value_parser = names())]
    ports: Vec<String>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(PORTS.map(|port| port.name))
}

/// One port in one interpreter.
struct Row {
    port: &'static Port,
    interpreter: String,
    version: String,
    threads: String,
    tries: anyhow::Result<Tries>,
}

enum Tries {
    Ported { before: Try, after: Try },
    Broken(Try),
}

/// The results of an extension, or why it cannot be built here.
type Try = Result<Tried, &'static str>;

struct Tried {
    /// The reason, if the suite does not apply here.
    suite: Result<suite::Outcome, String>,
    probes: probe::Outcome,
}

/// The form of an extension that is built.
#[derive(Clone, Copy)]
enum Shape {
    Before,
    After,
    Broken,
}

fn main() -> ExitCode {
    pythons::exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let ports = args.ports();
    let mut rows = Vec::new();
    for name in args.interpreters() {
        for port in ports.iter().copied() {
            eprintln!("\n=== {}, {name} ===", port.name);
            let row = Row::new(port, &name, args.broken);
            if let Err(error) = &row.tries {
                eprintln!("{error:#}");
            }
            rows.push(row);
        }
    }
    print!("{}", report::report(&rows, args.broken));
    let wrong: Vec<_> = rows.iter().flat_map(Row::complaints).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\nerror: "));
    Ok(())
}

impl Args {
    fn ports(&self) -> Vec<&'static Port> {
        static ALL: [Port; PORTS.len()] = PORTS;
        let wanted = |port: &&Port| {
            let is_named = self.ports.iter().any(|name| name == port.name);
            // The probes of a port that keeps the failures of the original fail anyway.
            is_named || self.ports.is_empty() && !(self.broken && port.fails_as_before)
        };
        ALL.iter().filter(wanted).collect()
    }

    fn interpreters(&self) -> Vec<String> {
        if self.interpreters.is_empty() {
            INTERPRETERS.map(str::to_owned).to_vec()
        } else {
            self.interpreters.clone()
        }
    }
}

impl Row {
    fn new(port: &'static Port, name: &str, broken: bool) -> Self {
        let found = pythons::find(name).with_context(|| format!("there is no Python {name}"));
        let mut row = Row {
            port,
            interpreter: name.to_owned(),
            version: String::new(),
            threads: String::new(),
            tries: Ok(Tries::Broken(Err(""))),
        };
        row.tries = found.and_then(|interpreter| {
            row.version.clone_from(&interpreter.version);
            row.threads = suite::threads_text(port, &interpreter);
            let attempt = |shape| attempt(port, &interpreter, shape);
            Ok(if broken {
                Tries::Broken(attempt(Shape::Broken)?)
            } else {
                Tries::Ported {
                    before: attempt(Shape::Before)?,
                    after: attempt(Shape::After)?,
                }
            })
        });
        row
    }

    /// Returns the failures of this row.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        match &self.tries {
            Err(error) => complaints.push(format!("{error:#}")),
            Ok(Tries::Broken(Ok(broken))) if broken.probes.hung == 0 => {
                complaints.push("no probe hangs with the broken crate".to_owned());
            }
            Ok(Tries::Broken(_)) => {}
            Ok(Tries::Ported { before, after }) => {
                if let Ok(after) = after {
                    after.complain(before.as_ref().ok(), self.port, &mut complaints);
                }
            }
        }
        let title = format!("{}, {}", self.port.name, self.interpreter);
        complaints
            .iter()
            .map(|complaint| format!("[{title}] {complaint}"))
            .collect()
    }
}

impl Tried {
    fn complain(&self, before: Option<&Tried>, port: &Port, complaints: &mut Vec<String>) {
        if let Ok(suite) = &self.suite {
            let before = before.and_then(|before| before.suite.as_ref().ok());
            let failed_before = before.map_or(&[][..], |before| &before.failed);
            for test in suite
                .failed
                .iter()
                .filter(|test| !failed_before.contains(test))
            {
                complaints.push(format!("fails after it was ported: {test}"));
            }
            if suite.hung {
                complaints.push("the suite hangs after it was ported".to_owned());
            }
            let count = |suite: &suite::Outcome| suite.passed + suite.failed.len() + suite.skipped;
            if let Some(before) =
                before.filter(|before| !before.hung && count(before) != count(suite))
            {
                complaints.push(format!(
                    "{} tests before, and {} after",
                    count(before),
                    count(suite)
                ));
            }
        }
        if !port.fails_as_before && !self.probes.is_good() {
            complaints.push("probes of the ported extension fail".to_owned());
        }
    }
}

/// Builds an extension in a shape and tests it. Returns the reason if it cannot be built here.
fn attempt(port: &'static Port, interpreter: &Interpreter, shape: Shape) -> anyhow::Result<Try> {
    let reason = match shape {
        Shape::Before => (port.not_before)(interpreter),
        Shape::After | Shape::Broken => (port.not_after)(interpreter),
    };
    if let Some(reason) = reason {
        eprintln!("{}: not built: {reason}", shape.name());
        return Ok(Err(reason));
    }
    eprintln!("{}: building", shape.name());
    let built = Built::new(port, interpreter, shape)?;
    eprintln!("{}: its own tests", shape.name());
    let suite = suite::run(
        port,
        interpreter,
        &built.sources,
        &built.modules,
        &built.target,
    )?;
    eprintln!("{}: probes", shape.name());
    let at_a_time = match shape {
        Shape::Broken => BROKEN_AT_A_TIME,
        Shape::Before | Shape::After => 1,
    };
    let probes = probe::run(port, interpreter, &built.modules, at_a_time)?;
    Ok(Ok(Tried { suite, probes }))
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::Before => "before",
            Shape::After => "after",
            Shape::Broken => "broken",
        }
    }
}

/// An extension that was laid out and built.
struct Built {
    sources: PathBuf,
    /// The folder with the extension module.
    modules: PathBuf,
    /// The target folder of cargo, which all ports share with their dependencies.
    target: PathBuf,
}

impl Built {
    fn new(port: &'static Port, interpreter: &Interpreter, shape: Shape) -> anyhow::Result<Self> {
        let folder = sources::folder()?;
        let name = format!("{}-{}", port.name, shape.name());
        let sources = folder.join("sources").join(&name);
        let target = folder.join("build").join(&interpreter.name);
        let modules = folder.join("modules").join(&interpreter.name).join(&name);

        let (pyo3_sync, changes) = match shape {
            Shape::Before => (workspace(), &[][..]),
            Shape::After => (workspace(), port.changes),
            Shape::Broken => (sources::broken_crate(&BREAKS)?, port.changes),
        };
        sources::lay_out(
            port,
            port.preparations.iter().chain(changes),
            &pyo3_sync,
            &sources,
        )
        .with_context(|| format!("cannot change {}", port.name))?;
        let package = port.module.package;
        let made = ExtensionModule {
            workspace: &sources.join(port.module.folder),
            package,
            interpreter: &interpreter.path,
            target: &target,
            optimized: true,
            features: &[],
            rust_flags: "",
        }
        .build()
        .with_context(|| format!("{}, {}", port.name, shape.name()))?;
        // Copies the module, because the next one is built into the same folder.
        fs::create_dir_all(&modules)?;
        let made = made.join(format!("{}{MODULE_SUFFIX}", package.replace('-', "_")));
        let module = modules.join(format!("{}{MODULE_SUFFIX}", port.module.name));
        replace(&made, &module).with_context(|| format!("cannot copy {}", made.display()))?;
        Ok(Built {
            sources,
            modules,
            target,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_break_matches_one_place() {
        for change in &BREAKS {
            let text = fs::read_to_string(workspace().join(change.file)).unwrap();
            assert_eq!(text.matches(change.from).count(), 1, "{}", change.from);
        }
    }
}
