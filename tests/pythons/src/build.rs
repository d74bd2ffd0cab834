//! Builds libraries and examples of a workspace as extension modules for one interpreter.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

/// The suffix of extension modules for any version.
pub const MODULE_SUFFIX: &str = if cfg!(windows) { ".pyd" } else { ".so" };

/// Returns the folder of the workspace.
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("the package is `tests/pythons`")
        .to_owned()
}

/// Returns the folder that cargo builds into.
pub fn target() -> io::Result<PathBuf> {
    std::path::absolute(
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from),
    )
}

/// An extension module to build for an interpreter.
pub struct ExtensionModule<'a> {
    /// The folder of the workspace: this one, or a copy.
    pub workspace: &'a Path,
    pub package: &'a str,
    pub interpreter: &'a Path,
    /// A folder for each interpreter, because cargo rebuilds everything if the interpreter changes.
    pub target: &'a Path,
    pub optimized: bool,
    /// Features of the package to build with, as cargo takes them.
    pub features: &'a [String],
    /// Added to the `RUSTFLAGS` of the environment.
    pub rust_flags: &'a str,
}

/// A compiler other than the one that cargo chooses.
#[derive(Default)]
pub struct Compiler {
    /// The environment of cargo.
    pub environment: Vec<(&'static str, OsString)>,
    /// The target. If set, build scripts and procedural macros are built without `rust_flags`.
    pub triple: Option<String>,
}

impl ExtensionModule<'_> {
    /// Builds the module and returns the folder to put on the interpreter's module path.
    pub fn build(&self) -> anyhow::Result<PathBuf> {
        self.build_with(&Compiler::default())
    }

    /// [`build`](Self::build) with another compiler.
    pub fn build_with(&self, compiler: &Compiler) -> anyhow::Result<PathBuf> {
        self.cargo_build("--lib", compiler)?;
        let module = self.package.replace('-', "_");
        self.collect(compiler.triple.as_deref().unwrap_or(""), "", &[module])
    }

    /// Builds all examples of the package and returns the folder with those named.
    pub fn build_examples(&self, names: &[String]) -> anyhow::Result<PathBuf> {
        self.cargo_build("--examples", &Compiler::default())?;
        self.collect("", "examples", names)
    }

    /// Copies the libraries to the names that Python imports.
    fn collect(&self, triple: &str, folder: &str, names: &[String]) -> anyhow::Result<PathBuf> {
        let (prefix, suffix) = (env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        let profile = if self.optimized { "release" } else { "debug" };
        let made = self.target.join(triple).join(profile).join(folder);
        let modules = self.target.join("modules");
        fs::create_dir_all(&modules)?;
        for name in names {
            let library = made.join(format!("{prefix}{name}{suffix}"));
            ensure!(library.exists(), "cargo did not make {}", library.display());
            replace(&library, &modules.join(format!("{name}{MODULE_SUFFIX}")))
                .with_context(|| format!("cannot copy {}", library.display()))?;
        }
        Ok(modules)
    }

    fn cargo_build(&self, what: &str, compiler: &Compiler) -> anyhow::Result<()> {
        let Self {
            package,
            interpreter,
            target,
            features,
            ..
        } = self;
        let shell = Shell::new()?;
        shell.change_dir(self.workspace);
        let release = self.optimized.then_some("--release");
        let features = features.iter().flat_map(|feature| ["--features", feature]);
        let target_triple = compiler
            .triple
            .iter()
            .flat_map(|triple| ["--target", triple]);
        let mut build = cmd!(
            shell,
            "cargo build --quiet --package {package} {what} --target-dir {target}"
        )
        .args(target_triple)
        .args(release)
        .args(features);
        for (key, _) in env::vars_os() {
            if key.to_string_lossy().starts_with("PYO3_") {
                build = build.env_remove(key);
            }
        }
        let flags = env::var("RUSTFLAGS").unwrap_or_default();
        build
            .envs(compiler.environment.iter().map(|(key, value)| (key, value)))
            .env("PYO3_BUILD_EXTENSION_MODULE", "1")
            .env("PYO3_PYTHON", interpreter)
            .env("RUSTFLAGS", format!("{flags} {}", self.rust_flags).trim())
            .run()
            .with_context(|| format!("cannot build {package}"))
    }
}

/// Replaces a file by a copy of another one. A process may have loaded the old file.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let new = to.with_extension("new");
    fs::copy(from, &new)?;
    fs::rename(new, to)
}

/// Creates a symbolic link. On Windows this requires a privilege, which CI services grant.
pub fn link(target: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, link);
    #[cfg(windows)]
    return if target.is_dir() {
        std::os::windows::fs::symlink_dir(target, link)
    } else {
        std::os::windows::fs::symlink_file(target, link)
    };
}
