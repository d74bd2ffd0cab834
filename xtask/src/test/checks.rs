//! Builds that are only compiled: for other systems, by the oldest Rust, as the package that users get.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::{
    build::{target, workspace},
    rust::{self, Toolchain},
};

pub(super) enum Checked {
    Compiles,
    /// Why it could not be looked at.
    NotLookedAt(String),
}

/// The crate with these flags for its features.
pub(super) fn features(flags: &[&str]) -> anyhow::Result<Checked> {
    let mut cargo = cargo("clippy");
    cargo.args(["--package", "pyo3-sync"]).args(flags);
    run(cargo.args(["--", "-D", "warnings"]))
}

/// Everything in the workspace, tests and tasks too, by the oldest Rust we support.
pub(super) fn oldest_rust() -> anyhow::Result<Checked> {
    let toolchain = match rust::oldest() {
        Ok(toolchain) => toolchain,
        Err(reason) => return Ok(Checked::NotLookedAt(format!("{reason:#}"))),
    };
    let mut cargo = toolchain.cargo();
    cargo
        .args(["check", "--quiet", "--workspace", "--all-targets"])
        // A program that is run, and not linked with: it may ask for more.
        .args(["--exclude", "cargo-pyo3-sync"])
        .arg("--target-dir")
        .arg(target()?.join("oldest-rust"));
    run(&mut cargo)
}

/// The package, made and compiled on its own as for publishing.
pub(super) fn package() -> anyhow::Result<Checked> {
    // What is to be published must be committed, but a check of work in progress is of use too.
    run(cargo("publish").args(["--dry-run", "--allow-dirty", "--package", "pyo3-sync"]))
}

/// The package with the lowest versions of its dependencies that its manifest allows.
pub(super) fn lowest_versions() -> anyhow::Result<Checked> {
    let folder = target()?.join("lowest-versions");
    let packages = folder.join("package");
    if packages.is_dir() {
        fs::remove_dir_all(&packages)?; // Perhaps of another version.
    }
    let mut package = cargo("package");
    package.args([
        "--no-verify",
        "--allow-dirty",
        "--package",
        "pyo3-sync",
        "--target-dir",
    ]);
    run(package.arg(&folder))?;
    let archive = only_file(&packages)?;
    run(Command::new("tar")
        .current_dir(&packages)
        .arg("-xzf")
        .arg(&archive))?;
    let root = archive.with_extension("");
    stand_alone(&root)?;

    let mut update = cargo("update");
    // The option is not stable; the versions that it chooses are used with the toolchain as it is.
    update
        .args(["-Z", "direct-minimal-versions"])
        .env("RUSTC_BOOTSTRAP", "1");
    run(update.current_dir(&root))?;
    let mut check = cargo("check");
    check
        .arg("--all-features")
        .arg("--target-dir")
        .arg(folder.join("target"));
    run(check.current_dir(&root))
}

/// The package, beside which cargo may leave folders.
fn only_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut packages = files.filter(|path| path.extension().is_some_and(|name| name == "crate"));
    packages.next().context("cargo made no package")
}

/// Makes the package no member of the workspace that its folder lies in.
fn stand_alone(package: &Path) -> anyhow::Result<()> {
    let manifest = package.join("Cargo.toml");
    let mut text = fs::read_to_string(&manifest)?;
    text.push_str("\n[workspace]\n");
    fs::write(manifest, text)?;
    Ok(())
}

/// The crate for PyPy, which need not be there: PyO3 is told what it would find.
pub(super) fn pypy() -> anyhow::Result<Checked> {
    let mut check = cargo("check");
    check
        .args(["--package", "pyo3-sync", "--all-features", "--target-dir"])
        .arg(target()?.join("pypy"))
        .env("PYO3_CROSS_PYTHON_IMPLEMENTATION", "PyPy");
    run(for_python(&mut check, "3.11"))
}

/// The crate, and all that `cargo xtask test` needs, for another system and a Python there.
pub(super) fn platform(target: &str, python: &str, with_tests: bool) -> anyhow::Result<Checked> {
    let toolchain = match rust::for_target(target) {
        Ok(toolchain) => toolchain,
        Err(reason) => return Ok(Checked::NotLookedAt(format!("{reason:#}"))),
    };
    let mut check = toolchain.cargo();
    check.args([
        "check",
        "--quiet",
        "--target",
        target,
        "--package",
        "pyo3-sync",
    ]);
    if with_tests {
        check.args(["--package", "pyo3-sync-suite", "--package", "xtask"]);
    } else {
        check.arg("--all-features");
    }
    make_standard_library(&mut check, &toolchain, target);
    check
        .arg("--target-dir")
        .arg(crate::build::target()?.join("platforms"))
        .env("RUSTFLAGS", "-D warnings");
    run(for_python(&mut check, python))
}

/// Has cargo make the standard library from its sources, if the toolchain does not have it.
fn make_standard_library(cargo: &mut Command, toolchain: &Toolchain, target: &str) {
    if !toolchain.has_target(target) {
        cargo
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC_BOOTSTRAP", "1");
    }
}

/// Tells PyO3 of a Python that is not there.
fn for_python<'a>(cargo: &'a mut Command, version: &str) -> &'a mut Command {
    cargo
        .env("PYO3_CROSS", "1")
        .env("PYO3_CROSS_PYTHON_VERSION", version)
}

fn cargo(what: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args([what, "--quiet"]);
    command
}

/// The error is the first that the program reports.
fn run(command: &mut Command) -> anyhow::Result<Checked> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(Checked::Compiles);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    eprintln!("{complaint}");
    let first = complaint.lines().find(|line| line.starts_with("error"));
    ensure!(
        first.is_some(),
        "{:?}: {}",
        command.get_program(),
        output.status
    );
    bail!("{}", first.unwrap_or_default())
}
