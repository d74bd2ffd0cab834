//! Rust compilers and their LLVM, of which the other tools must be of the same version.

use std::path::{Path, PathBuf};

use anyhow::Context;
use xshell::{Shell, cmd};

/// A Rust compiler.
pub(crate) struct Rustc {
    pub(crate) path: PathBuf,
    /// Its host.
    pub(crate) triple: String,
    pub(crate) sysroot: PathBuf,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
}

impl Rustc {
    /// Runs the compiler to learn its host, its LLVM and its folder.
    pub(crate) fn inspect(path: PathBuf) -> anyhow::Result<Self> {
        let shell = Shell::new()?;
        let about = cmd!(shell, "{path} -vV").ignore_stderr().quiet().read()?;
        let value = |key: &str| about.lines().find_map(|line| line.strip_prefix(key));
        let sysroot = cmd!(shell, "{path} --print sysroot").ignore_stderr();
        Ok(Rustc {
            triple: value("host: ").context("a compiler has a host")?.to_owned(),
            llvm: value("LLVM version: ")
                .and_then(|version| version.split('.').next()?.parse().ok())
                .context("a compiler has an LLVM")?,
            sysroot: sysroot.quiet().read()?.into(),
            path,
        })
    }

    /// Returns the name or path of a tool of LLVM: that of rustup's component `llvm-tools`, or the
    /// name that distributions use.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        let folder = Path::new("lib/rustlib").join(&self.triple).join("bin");
        let component = self.sysroot.join(folder).join(name);
        if component.is_file() {
            component
        } else {
            format!("{name}-{}", self.llvm).into()
        }
    }
}
