//! Verifies interpreters by running them, because a file name proves nothing.
//!
//! The shims of pyenv exist for all installed versions, and exit with an error for inactive ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::{
    command,
    name::{Name, Version},
};

/// A working CPython interpreter.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// The name that it was searched by: `3.14t`, or `python3` for the machine's own.
    pub name: String,
    /// Its executable, as the interpreter itself gives it in `sys.executable`.
    pub path: PathBuf,
    /// The full version, `3.14.2`.
    pub version: String,
    /// A free-threaded build, with the GIL disabled.
    pub free_threaded: bool,
    /// Its `3.x`.
    pub minor: u8,
}

impl Interpreter {
    /// Runs the executable. Returns an error if it is not the interpreter of this name.
    pub(super) fn verify(name: Name, executable: &Path) -> anyhow::Result<Self> {
        let interpreter = Self::inspect(name, executable)?;
        if let Name::Version(wanted) = name {
            let Interpreter {
                version,
                free_threaded,
                minor,
                ..
            } = &interpreter;
            let found = Version {
                minor: *minor,
                free_threaded: *free_threaded,
            };
            ensure!(
                found == wanted,
                "{} is Python {version}{}",
                executable.display(),
                build(*free_threaded)
            );
        }
        Ok(interpreter)
    }

    fn inspect(name: Name, executable: &Path) -> anyhow::Result<Self> {
        let script = include_str!("inspect.py");
        let shell = Shell::new()?;
        // -B: inspecting an interpreter must not write files.
        let answer = command::run(cmd!(shell, "{executable} -B -").stdin(script))?;
        let told = || {
            format!(
                "unexpected description of {}: {answer:?}",
                executable.display()
            )
        };
        let facts: Value = serde_json::from_str(&answer).with_context(told)?;
        let text = |key: &str| facts[key].as_str().map(str::to_owned).with_context(told);
        let flag = |key: &str| facts[key].as_bool().with_context(told);

        ensure!(
            text("implementation")? == "cpython",
            "{} is not CPython",
            executable.display()
        );
        let free_threaded = flag("free_threaded")?;
        ensure!(
            flag("gil_enabled")? != free_threaded,
            "{} is a free-threaded build that runs with the GIL on: is PYTHON_GIL set?",
            executable.display()
        );
        Ok(Interpreter {
            name: name.to_string(),
            path: text("executable")?.into(),
            version: text("version")?,
            free_threaded,
            minor: facts["minor"].as_u64().with_context(told)?.try_into()?,
        })
    }
}

fn build(free_threaded: bool) -> &'static str {
    if free_threaded { ", free-threaded" } else { "" }
}
