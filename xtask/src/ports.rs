//! `cargo xtask ports`: published extensions carried over to this crate, tried before and after.
//!
//! For each port in `ports/list.rs` and each interpreter
//!
//! 1. the extension is fetched by name and version, with the ordinary clients: pip for a source distribution, cargo for a crate.
//!    Nothing of it is committed; everything lies under `target/ports`.
//! 2. It is laid out twice, as it was and with the port's changes made: the line of the dependency, the `use` lines, and in one port
//!    the types that PyO3 has removed. A change that finds not exactly one place is an error.
//! 3. Both are built, and both run the extension's own tests: where there is no GIL, each by several threads at once.
//! 4. In both, [probes](probe): fresh processes in which eight threads make the very first use at once.
//!
//! One table tells what came of it. The task fails if a test fails after that did not fail before, if one was lost, or if a probe of
//! a ported extension does not come to a good end.
//!
//! # Do the probes notice anything?
//!
//! `--break` is the answer: it builds the ports against a copy of this crate that was [broken on purpose](BREAKS), in the two ways in
//! which cells hang extensions: whoever waits stays attached, and an import is made with the cell held. Then the probes must hang, and
//! the task fails if those of one port do not. The suites are run too, and mostly pass.

mod list;
mod probe;
mod report;
mod sources;
mod suite;

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};

use crate::{
    build::{ExtensionModule, MODULE_SUFFIX},
    python::{self, Interpreter},
};
use list::{Change, PORTS, Port};

/// The machine's own, and one without a GIL.
const INTERPRETERS: [&str; 2] = ["python3", "3.14t"];

/// What `--break` breaks in the copy of this crate.
const BREAKS: [Change; 3] = [
    // A thread that waits stays attached.
    Change {
        file: "src/wait/interpreter.rs",
        from: "    let _attach = Attach(unsafe { ffi::PyEval_SaveThread() });\n",
        to: "    let _ = || Attach(unsafe { ffi::PyEval_SaveThread() });\n",
    },
    // Nor does it run code of Python's now and then, which would let others have a GIL.
    Change {
        file: "src/wait/mod.rs",
        from: "const IMPORT_POLL_INTERVAL: Duration = Duration::from_millis(300);",
        to: "const IMPORT_POLL_INTERVAL: Duration = Duration::from_secs(3600);",
    },
    // An import is an initialiser like any other. As it is, nobody waits for an import, attached or not.
    Change {
        file: "src/once_lock.rs",
        from: "        let attribute = retry_import(py, || py.import(module_name)?.getattr(attr_name))?;
        let object = attribute.cast_into::<T>()?.unbind();
        Ok(self.insert_first(py, object).bind(py))
",
        to: "        let object = self.get_or_try_init(py, || {
            let attribute = retry_import(py, || py.import(module_name)?.getattr(attr_name))?;
            PyResult::Ok(attribute.cast_into::<T>()?.unbind())
        })?;
        Ok(object.bind(py))
",
    },
];

/// Probes that hang need no processor: several at a time.
const BROKEN_AT_A_TIME: usize = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to run: `3.14t` and so on, or `python3` for the machine's own; may be repeated. That and 3.14t, unless told
    #[arg(short, long = "interpreter", value_name = "NAME")]
    interpreters: Vec<String>,

    /// Build against a copy of this crate that was broken on purpose, and expect the probes to hang
    #[arg(long = "break")]
    broken: bool,

    /// Only this port; may be repeated
    #[arg(value_name = "PORT")]
    ports: Vec<String>,
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

/// What came of an extension; otherwise why it cannot be built here.
type Try = Result<Tried, &'static str>;

struct Tried {
    /// The reason, if the suite does not apply here.
    suite: Result<suite::Outcome, String>,
    probes: probe::Outcome,
}

/// In which shape an extension is built.
#[derive(Clone, Copy)]
enum Shape {
    Before,
    After,
    Broken,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let ports = args.ports()?;
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
    fn ports(&self) -> anyhow::Result<Vec<&'static Port>> {
        static ALL: [Port; PORTS.len()] = PORTS;
        for name in &self.ports {
            let known = ALL.each_ref().map(|port| port.name);
            ensure!(
                known.contains(&name.as_str()),
                "there is no port {name}: {}",
                known.join(", ")
            );
        }
        let wanted = |port: &&Port| {
            let is_named = self.ports.iter().any(|name| name == port.name);
            // A port that keeps the failures of the original proves nothing here.
            is_named || self.ports.is_empty() && !(self.broken && port.fails_as_before)
        };
        Ok(ALL.iter().filter(wanted).collect())
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
        let found =
            python::find(name).with_context(|| format!("there is no Python {name} to be had"));
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

    /// What is not as it has to be.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        match &self.tries {
            Err(error) => complaints.push(format!("{error:#}")),
            Ok(Tries::Broken(Ok(broken))) if broken.probes.hung == 0 => {
                complaints.push("the crate is broken, and no probe noticed".to_owned());
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

/// Builds an extension in a shape and tries it. The answer may be why it cannot be built here.
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
    /// Cargo's, which all ports share: most of what is built is the same.
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
            Shape::Before => (crate::build::workspace(), &[][..]),
            Shape::After => (crate::build::workspace(), port.changes),
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
            optimised: true,
            features: &[],
            rust_flags: "",
        }
        .build()
        .with_context(|| format!("{}, {}", port.name, shape.name()))?;
        // The next one is built into the same folder.
        fs::create_dir_all(&modules)?;
        let made = made.join(format!("{}{MODULE_SUFFIX}", package.replace('-', "_")));
        let module = modules.join(format!("{}{MODULE_SUFFIX}", port.module.name));
        crate::build::replace(&made, &module)
            .with_context(|| format!("cannot copy {}", made.display()))?;
        Ok(Built {
            sources,
            modules,
            target,
        })
    }
}
