//! Other Rust toolchains than the one in use: the oldest that we support, and one that can check for other systems.
//!
//! They are looked for among those of rustup. Otherwise the oldest is unpacked from packages of Debian, which changes nothing on the
//! machine; it comes with the sources of the standard library, from which cargo makes the one of any other system.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use crate::{
    build::{self, workspace},
    python::{cache, debian},
};

/// The suite whose Rust is the oldest we support, and which runs on that suite and later ones.
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 7] = [
    "cargo-web",
    "libllvm19",
    "libpcre3",
    "libstd-rust-web-1.85",
    "libstd-rust-web-dev",
    "rust-web-src",
    "rustc-web",
];

pub(crate) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    /// Where it has the libraries it needs, if the system does not find them.
    libraries: Option<OsString>,
}

impl Toolchain {
    /// A cargo of this toolchain, in the folder of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(workspace()).env("RUSTC", &self.rustc);
        // Of the toolchain that runs this task.
        for name in ["RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "CARGO"] {
            command.env_remove(name);
        }
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    pub(crate) fn has_target(&self, target: &str) -> bool {
        self.sysroot
            .join("lib/rustlib")
            .join(target)
            .join("lib")
            .is_dir()
    }

    fn has_sources(&self) -> bool {
        let library = self.sysroot.join("lib/rustlib/src/rust/library");
        library.join("std/Cargo.toml").is_file()
    }

    fn of_rustup(name: &str) -> anyhow::Result<Self> {
        let shell = Shell::new()?;
        let which = |program: &str| -> anyhow::Result<PathBuf> {
            let path = cmd!(shell, "rustup which --toolchain {name} {program}")
                .quiet()
                .ignore_stderr()
                .read()?;
            Ok(path.into())
        };
        let rustc = which("rustc")?;
        let sysroot = cmd!(shell, "{rustc} --print sysroot").quiet().read()?;
        Ok(Self {
            cargo: which("cargo")?,
            rustc,
            sysroot: sysroot.into(),
            libraries: None,
        })
    }

    fn of_debian() -> anyhow::Result<Self> {
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "Debian's packages of it are unpacked on Linux and x86-64 only"
        );
        let root = cache::obtain(&format!("rust-{SUITE}"), |folder| {
            eprintln!("unpacking Rust from Debian {SUITE}");
            debian::unpack(SUITE, &PACKAGES.map(str::to_owned), folder)?;
            link_sources(folder)
        })?;
        let libraries = [
            "usr/lib/x86_64-linux-gnu",
            "lib/x86_64-linux-gnu",
            "usr/lib/llvm-19/lib",
        ];
        Ok(Self {
            cargo: root.join("usr/bin/cargo"),
            rustc: root.join("usr/bin/rustc"),
            sysroot: root.join("usr"),
            libraries: Some(env::join_paths(libraries.map(|folder| root.join(folder)))?),
        })
    }
}

/// The link from the toolchain to its sources is absolute.
fn link_sources(root: &Path) -> anyhow::Result<()> {
    let sources = fs::read_dir(root.join("usr/src"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|folder| folder.join("library/std").is_dir())
        .context("the packages have no sources")?;
    let link = root.join("usr/lib/rustlib/src/rust");
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link)?;
    }
    fs::create_dir_all(link.parent().expect("it has one"))?;
    let folder = sources.file_name().expect("it has a name");
    build::link(&Path::new("../../../src").join(folder), &link)?;
    Ok(())
}

/// The oldest Rust that the workspace supports, as its manifest says.
pub(crate) fn oldest() -> anyhow::Result<Toolchain> {
    let version = env!("CARGO_PKG_RUST_VERSION");
    if let Some(name) = installed()?.iter().find(|name| is_of(name, version)) {
        return Toolchain::of_rustup(name);
    }
    let toolchain = Toolchain::of_debian()
        .with_context(|| format!("rustup has no {version}, and it is not to be had from Debian"))?;
    let output = toolchain.cargo().arg("--version").output()?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        answer.starts_with(&format!("cargo {version}.")),
        "Debian {SUITE} has another version: {answer}"
    );
    Ok(toolchain)
}

/// One that can check for this target: it has the target's standard library, or the sources to make it from.
pub(crate) fn for_target(target: &str) -> anyhow::Result<Toolchain> {
    let installed = installed()?.into_iter();
    let mut toolchains: Vec<_> = installed
        .filter_map(|name| Toolchain::of_rustup(&name).ok())
        .collect();
    let usable = |toolchain: &Toolchain| toolchain.has_target(target) || toolchain.has_sources();
    match toolchains.iter().position(usable) {
        Some(place) => Ok(toolchains.swap_remove(place)),
        None => Toolchain::of_debian().with_context(|| {
            format!("no toolchain of rustup has the standard library for {target} or its sources")
        }),
    }
}

/// The toolchains of rustup. None where there is no rustup.
fn installed() -> anyhow::Result<Vec<String>> {
    let shell = Shell::new()?;
    let names = cmd!(shell, "rustup toolchain list --quiet")
        .quiet()
        .ignore_stderr()
        .read();
    Ok(names
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect())
}

/// Whether the toolchain is of this release: `1.85-..`, `1.85.1-..`, not `1.850`.
fn is_of(toolchain: &str, version: &str) -> bool {
    toolchain
        .strip_prefix(version)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_is_known_by_its_release() {
        for name in [
            "1.85",
            "1.85-x86_64-pc-windows-msvc",
            "1.85.1-aarch64-apple-darwin",
        ] {
            assert!(is_of(name, "1.85"), "{name}");
        }
        for name in ["1.8", "1.850", "stable-x86_64-unknown-linux-gnu", "11.85"] {
            assert!(!is_of(name, "1.85"), "{name}");
        }
    }
}
