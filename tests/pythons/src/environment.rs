//! Virtual environments, made with uv: one for each interpreter that runs Python tests.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{Interpreter, cache, command, uv};

/// The packages that run Python tests.
const PYTEST: [&str; 2] = ["pytest>=8.3,<10", "pytest-run-parallel>=0.4,<1"];

/// The path of the interpreter in an environment.
const PYTHON: &str = if cfg!(windows) {
    "Scripts/python.exe"
} else {
    "bin/python"
};

/// Returns the interpreter of an environment that has pytest and pytest-run-parallel.
pub fn with_pytest(interpreter: &Interpreter) -> anyhow::Result<PathBuf> {
    with(interpreter, "pytest", &PYTEST)
}

/// The same, and these packages.
pub fn with_pytest_and(interpreter: &Interpreter, packages: &[&str]) -> anyhow::Result<PathBuf> {
    match packages {
        [] => with_pytest(interpreter),
        _ => with(interpreter, "pytest-and", &[&PYTEST, packages].concat()),
    }
}

/// Returns the interpreter of an environment with these requirements. `what` describes it in
/// errors.
pub fn with(interpreter: &Interpreter, what: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    // Another interpreter of the same name gets another environment.
    let mut hasher = DefaultHasher::new();
    (&interpreter.path, &interpreter.version, packages).hash(&mut hasher);
    let name = format!("{what}-{}-{:016x}", interpreter.name, hasher.finish());
    let folder = cache::obtain(&name, |folder| {
        let list = packages.join(", ");
        eprintln!("making an environment for {}: {list}", interpreter.name);
        let (uv, python, shell) = (uv::uv()?, &interpreter.path, Shell::new()?);
        command::run(
            cmd!(
                shell,
                "{uv} venv --quiet --relocatable --no-project --allow-existing"
            )
            .arg("--python")
            .args([python, folder])
            .env("UV_PYTHON_DOWNLOADS", "never"),
        )?;
        let inside = folder.join(PYTHON);
        command::run(
            cmd!(
                shell,
                "{uv} pip install --quiet --compile-bytecode --python {inside}"
            )
            .args(packages),
        )?;
        Ok(())
    })
    .with_context(|| format!("no environment with {what} for Python {}", interpreter.name))?;
    Ok(folder.join(PYTHON))
}
