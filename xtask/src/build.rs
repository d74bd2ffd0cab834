//! Libraries and examples of the workspace as extension modules for one interpreter.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

/// What the name of an extension module ends with, for whatever version it is.
pub(crate) const MODULE_SUFFIX: &str = if cfg!(windows) { ".pyd" } else { ".so" };

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("")
        .components()
        .collect()
}

/// The folder that cargo builds into.
pub(crate) fn target() -> io::Result<PathBuf> {
    std::path::absolute(
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from),
    )
}

/// What to build, and for whom.
pub(crate) struct ExtensionModule<'a> {
    /// The folder of the workspace: this one, or a copy.
    pub(crate) workspace: &'a Path,
    pub(crate) package: &'a str,
    pub(crate) interpreter: &'a Path,
    /// Each interpreter has a folder of its own, or the next one would build everything anew.
    pub(crate) target: &'a Path,
    pub(crate) optimised: bool,
    /// Features of the package to build with, as cargo takes them.
    pub(crate) features: &'a [String],
    /// For the compiler, besides what the environment says.
    pub(crate) rust_flags: &'a str,
}

/// A compiler that is not the one cargo would take.
#[derive(Default)]
pub(crate) struct Compiler {
    /// For cargo: which compiler, and what it is to do.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The target. If it is named, build scripts and procedural macros are built without `rust_flags`.
    pub(crate) triple: Option<String>,
}

impl ExtensionModule<'_> {
    /// Builds the module and returns the folder to put on the interpreter's module path.
    pub(crate) fn build(&self) -> anyhow::Result<PathBuf> {
        self.build_with(&Compiler::default())
    }

    /// [`build`](Self::build) with another compiler.
    pub(crate) fn build_with(&self, compiler: &Compiler) -> anyhow::Result<PathBuf> {
        self.cargo_build("--lib", compiler)?;
        let module = self.package.replace('-', "_");
        self.collect(compiler.triple.as_deref().unwrap_or(""), "", &[module])
    }

    /// Builds all examples of the package and returns the folder with those named.
    pub(crate) fn build_examples(&self, names: &[String]) -> anyhow::Result<PathBuf> {
        self.cargo_build("--examples", &Compiler::default())?;
        self.collect("", "examples", names)
    }

    /// Puts what cargo has made under the names that Python looks for.
    fn collect(&self, triple: &str, folder: &str, names: &[String]) -> anyhow::Result<PathBuf> {
        let (prefix, suffix) = (env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        let profile = if self.optimised { "release" } else { "debug" };
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
        let release = self.optimised.then_some("--release");
        let features = features.iter().flat_map(|feature| ["--features", feature]);
        let target_triple = compiler
            .triple
            .iter()
            .flat_map(|triple| ["--target", triple]);
        let mut build = cmd!(
            shell,
            "cargo build --quiet --package {package} {what} --target-dir {target} {target_triple...} {release...} {features...}"
        );
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

/// Copies to a new file that takes the name of the old one, which a process that is still running may have loaded.
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let new = to.with_extension("new");
    fs::copy(from, &new)?;
    fs::rename(new, to)
}

/// Makes a symbolic link. On Windows that takes a right which the machines of CI services give.
pub(crate) fn link(target: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, link);
    #[cfg(windows)]
    return if target.is_dir() {
        std::os::windows::fs::symlink_dir(target, link)
    } else {
        std::os::windows::fs::symlink_file(target, link)
    };
}
