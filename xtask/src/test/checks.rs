//! Builds that are only compiled: for other systems, with the oldest Rust, and as a package.
//!
//! rustup provides toolchains and standard libraries, and `cargo publish` builds the package.
//! cargo-hack and cargo-minimal-versions would replace three calls of cargo by two more tools.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use pythons::build::{target, workspace};

pub(super) enum Checked {
    Compiles,
    /// Not compiled, for this reason.
    Skipped(String),
}

/// Checks the crate with these flags for its features.
pub(super) fn features(flags: &[&str]) -> anyhow::Result<Checked> {
    let mut cargo = cargo("clippy");
    cargo.args(["--package", "pyo3-sync"]).args(flags);
    run(cargo.args(["--", "-D", "warnings"]))
}

/// Checks the whole workspace, tests and tasks too, with the oldest Rust that it supports.
pub(super) fn oldest_rust() -> anyhow::Result<Checked> {
    let version = env!("CARGO_PKG_RUST_VERSION");
    if let Err(reason) = rustup(&["run", "--install", version, "rustc", "--version"]) {
        return Ok(Checked::Skipped(format!("{reason:#}")));
    }
    let mut check = Command::new("rustup");
    check
        .current_dir(workspace())
        .args(["run", version, "cargo", "check", "--quiet"])
        .args(["--workspace", "--all-targets"])
        // A program, not a library: it may require a newer Rust.
        .args(["--exclude", "cargo-pyo3-sync"])
        .arg("--target-dir")
        .arg(target()?.join("oldest-rust"));
    run(&mut check)
}

/// Packs the crate and compiles the package, as for publishing.
pub(super) fn package() -> anyhow::Result<Checked> {
    // Allows uncommitted changes, so that work in progress can be checked.
    run(cargo("publish").args(["--dry-run", "--allow-dirty", "--package", "pyo3-sync"]))
}

/// Checks the package with the lowest versions of its dependencies that its manifest allows.
pub(super) fn lowest_versions() -> anyhow::Result<Checked> {
    let folder = target()?.join("lowest-versions");
    let packages = folder.join("package");
    if packages.is_dir() {
        fs::remove_dir_all(&packages)?; // The version may have changed.
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
    // Only the option is unstable, not the versions that it chooses.
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

/// Returns the package in a folder, beside which cargo may leave folders.
fn only_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut packages = files.filter(|path| path.extension().is_some_and(|name| name == "crate"));
    packages.next().context("cargo made no package")
}

/// Makes the package a workspace of its own.
fn stand_alone(package: &Path) -> anyhow::Result<()> {
    let manifest = package.join("Cargo.toml");
    let mut text = fs::read_to_string(&manifest)?;
    text.push_str("\n[workspace]\n");
    fs::write(manifest, text)?;
    Ok(())
}

/// Checks the crate for PyPy, which need not be installed.
pub(super) fn pypy() -> anyhow::Result<Checked> {
    let mut check = cargo("check");
    check
        .args(["--package", "pyo3-sync", "--all-features", "--target-dir"])
        .arg(target()?.join("pypy"))
        .env("PYO3_CROSS_PYTHON_IMPLEMENTATION", "PyPy");
    run(for_python(&mut check, "3.11"))
}

/// Checks the crate, and all that `cargo xtask test` needs, for another system and a Python there.
pub(super) fn platform(target: &str, python: &str, with_tests: bool) -> anyhow::Result<Checked> {
    if let Err(reason) = rustup(&["target", "add", target]) {
        return Ok(Checked::Skipped(format!("{reason:#}")));
    }
    let mut check = cargo("check");
    check.args(["--target", target, "--package", "pyo3-sync"]);
    if with_tests {
        check.args(["--package", "pyo3-sync-suite", "--package", "xtask"]);
    } else {
        check.arg("--all-features");
    }
    check
        .arg("--target-dir")
        .arg(pythons::build::target()?.join("platforms"))
        .env("RUSTFLAGS", "-D warnings");
    run(for_python(&mut check, python))
}

/// Runs rustup. The error is the last line that it prints.
fn rustup(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("rustup")
        .args(arguments)
        .output()
        .context("cannot run rustup")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last_line = complaint.trim_end().lines().next_back();
    ensure!(
        output.status.success(),
        "rustup: {}",
        last_line.unwrap_or_default()
    );
    Ok(())
}

/// Configures PyO3 for a version of Python that need not be installed.
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

/// Runs a program. The error is the first that it reports.
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
