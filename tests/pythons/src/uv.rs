//! Runs uv, getting it from PyPI if the machine has none.

use std::{env::consts::EXE_SUFFIX, path::PathBuf};

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

use super::{Interpreter, cache, command, discover, name::Name, pip};

/// Installs the interpreter with uv.
pub(super) fn install(name: Name) -> anyhow::Result<Interpreter> {
    let Name::Version(version) = name else {
        bail!("installs versions, not the machine's own")
    };
    let uv = on_path().context("no uv on PATH")?;
    let release = version.to_string();
    let shell = Shell::new()?;
    eprintln!("asking uv for Python {release}");
    // Few retries, because the interpreter is assembled if the server cannot be reached.
    command::run(
        cmd!(shell, "{uv} python install --no-progress {release}").env("UV_HTTP_RETRIES", "1"),
    )?;
    discover::in_uv(name)
}

/// Returns the path of uv: the machine's, or one from PyPI.
pub(super) fn uv() -> anyhow::Result<PathBuf> {
    if let Some(uv) = on_path() {
        return Ok(uv);
    }
    let folder = cache::obtain("uv", |folder| pip::unpack("uv", folder))?;
    Ok(folder.join(format!("bin/uv{EXE_SUFFIX}")))
}

fn on_path() -> Option<PathBuf> {
    discover::all_on_path("uv").into_iter().next()
}
