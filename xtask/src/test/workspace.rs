//! The workspace that is tested: this one, or a copy with other versions of the dependencies.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pythons::build;
use xshell::{Shell, cmd};

/// Versions of the dependencies that the suite is built with.
#[derive(Clone, Copy, Default)]
pub(super) enum Dependencies<'a> {
    /// Those of `Cargo.lock`.
    #[default]
    Locked,
    /// The same, with another version of PyO3.
    PyO3(&'a str),
    /// The newest that the manifests allow.
    Newest,
}

pub(super) struct Workspace {
    pub(super) root: PathBuf,
    /// The folder for target folders, one for each interpreter.
    pub(super) target: PathBuf,
}

/// Entries that a copy does not share: it has a lock file and target folders of its own.
const OWN: [&str; 3] = ["Cargo.lock", "target", ".git"];

impl Workspace {
    pub(super) fn new(dependencies: Dependencies<'_>) -> anyhow::Result<Self> {
        let root = build::workspace();
        let suite = build::target()?.join("suite");
        match dependencies {
            Dependencies::Locked => Ok(Self {
                root,
                target: suite,
            }),
            // PyO3's other crates follow: each version of `pyo3` requires its own.
            Dependencies::PyO3(version) => Self::updated(
                &["--package", "pyo3", "--precise", version],
                &root,
                suite.join(format!("pyo3-{version}")),
            ),
            Dependencies::Newest => Self::updated(&[], &root, suite.join("newest")),
        }
    }

    /// Makes a folder of links to everything in the workspace, with a lock file of its own that
    /// `cargo update` has changed.
    fn updated(update: &[&str], original: &Path, folder: PathBuf) -> anyhow::Result<Self> {
        let root = folder.join("workspace");
        fs::create_dir_all(&root)?;
        for entry in fs::read_dir(original)? {
            let entry = entry?;
            if OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            }
            let link = root.join(entry.file_name());
            // An old one leads to another checkout if the target folder was moved.
            if fs::read_link(&link).is_ok_and(|target| target != entry.path()) {
                fs::remove_file(&link)?;
            }
            if !link.exists() {
                build::link(&entry.path(), &link)?;
            }
        }
        fs::copy(original.join("Cargo.lock"), root.join("Cargo.lock"))?;

        let shell = Shell::new()?;
        shell.change_dir(&root);
        cmd!(shell, "cargo update --quiet {update...}")
            .run()
            .context("cannot update the lock file of the copy")?;
        Ok(Self {
            root,
            target: folder,
        })
    }
}
