//! Packages from PyPI, unpacked into a folder by any pip that the machine has.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use xshell::{Shell, cmd};

use super::{
    Interpreter, command, discover,
    name::{Name, Version},
};

/// Unpacks a package, given as pip wants it, for the interpreter that runs pip.
pub(super) fn unpack(requirement: &str, into: &Path) -> anyhow::Result<()> {
    install(requirement, &[], into)
}

/// Unpacks a package for another version of Python and a platform such as `manylinux2014_x86_64`.
pub(super) fn unpack_for(
    version: Version,
    platform: &str,
    requirement: &str,
    into: &Path,
) -> anyhow::Result<()> {
    let (release, abi) = (version.release(), version.abi());
    install(
        requirement,
        &[
            "--python-version",
            &release,
            "--abi",
            &abi,
            "--platform",
            platform,
        ],
        into,
    )
}

fn install(requirement: &str, target: &[&str], into: &Path) -> anyhow::Result<()> {
    let python = with_pip()?.path;
    let shell = Shell::new()?;
    let pip = cmd!(
        shell,
        "{python} -m pip install --quiet --disable-pip-version-check"
    )
    .args(["--no-compile", "--no-deps", "--only-binary=:all:"])
    .args(target)
    .arg("--target")
    .arg(into)
    .arg(requirement);
    command::run(pip).with_context(|| format!("cannot get `{requirement}` from PyPI"))?;
    Ok(())
}

/// An interpreter that has pip: the machine's own if possible. (Debian's comes without.)
fn with_pip() -> anyhow::Result<Interpreter> {
    let versions = (9..=15).rev().map(|minor| {
        Name::Version(Version {
            minor,
            free_threaded: false,
        })
    });
    let places = [discover::on_path, discover::in_pyenv, discover::in_uv];
    let others = versions.flat_map(|name| places.iter().filter_map(move |look| look(name).ok()));

    let mut tried = Vec::new();
    for interpreter in super::machine().into_iter().chain(others) {
        if has_pip(&interpreter) {
            return Ok(interpreter);
        }
        tried.push(interpreter.path.display().to_string());
    }
    ensure!(
        !tried.is_empty(),
        "no Python 3.9 or newer on this machine: one with pip is needed to get packages"
    );
    bail!(
        "no pip on this machine (not in {}): install it, on Debian as python3-pip",
        tried.join(", ")
    )
}

fn has_pip(interpreter: &Interpreter) -> bool {
    let python = &interpreter.path;
    Shell::new().is_ok_and(|shell| command::run(cmd!(shell, "{python} -m pip --version")).is_ok())
}
