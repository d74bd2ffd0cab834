//! How to start a child, and the list of tests that it gives.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

/// The command that starts a child, all but the words that tell it what to do.
#[derive(Clone, Debug)]
pub struct Launcher {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Launcher {
    /// `name` appears in reports: the interpreter.
    pub fn new(name: impl Into<String>, program: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Launches the suite in an interpreter. The folder `modules` contains its extension module.
    pub fn suite(name: impl Into<String>, interpreter: &Path, modules: &Path) -> Self {
        Self::new(name, interpreter)
            .environment("PYTHONPATH", modules)
            .argument("-X")
            .argument("faulthandler")
            .argument("-c")
            .argument("import sys, pyo3_sync_suite; sys.exit(pyo3_sync_suite.main(sys.argv[1:]))")
    }

    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn environment(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn command(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(words)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null());
        command
    }
}

/// What a child answers to `list`.
#[derive(Debug, Deserialize)]
pub struct Listing {
    /// The version of the interpreter.
    pub python: String,
    pub free_threaded: bool,
    pub tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
pub struct Test {
    /// `module::test`
    pub name: String,
    /// In seconds, the start of the process included.
    pub limit: u64,
    /// Why the test does not apply here.
    pub ignored: Option<String>,
}
