//! Virtual environments, made with uv: one for each interpreter that runs Python tests.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{Interpreter, cache, command, uv};

/// What runs the Python tests.
const PACKAGES: [&str; 2] = ["pytest>=8.3,<10", "pytest-run-parallel>=0.4,<1"];

/// Returns the interpreter of an environment that has pytest and pytest-run-parallel.
pub(crate) fn with_pytest(interpreter: &Interpreter) -> anyhow::Result<PathBuf> {
    // By what it is made of, so that another interpreter of the same name gets another environment.
    let mut hasher = DefaultHasher::new();
    (&interpreter.path, &interpreter.version, PACKAGES).hash(&mut hasher);
    let name = format!("pytest-{}-{:016x}", interpreter.name, hasher.finish());
    let folder = cache::obtain(&name, |folder| {
        eprintln!("making an environment with pytest for {}", interpreter.name);
        let (uv, python, shell) = (uv::uv()?, &interpreter.path, Shell::new()?);
        command::run(
            cmd!(
                shell,
                "{uv} venv --quiet --relocatable --no-project --allow-existing --python {python} {folder}"
            )
            .env("UV_PYTHON_DOWNLOADS", "never"),
        )?;
        let inside = folder.join("bin/python");
        command::run(cmd!(shell, "{uv} pip install --quiet --compile-bytecode --python {inside}").args(PACKAGES))?;
        Ok(())
    })
    .with_context(|| format!("no environment with pytest for Python {}", interpreter.name))?;
    Ok(folder.join("bin/python"))
}
