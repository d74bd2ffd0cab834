//! The workspace that is tested: this one, or a copy with another version of PyO3.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use xshell::{Shell, cmd};

use crate::build;

pub(super) struct Workspace {
    pub(super) root: PathBuf,
    /// The folder for target folders, one for each interpreter.
    pub(super) target: PathBuf,
}

/// What of the workspace a copy does not share: it has a lock file and target folders of its own.
const OWN: [&str; 3] = ["Cargo.lock", "target", ".git"];

impl Workspace {
    pub(super) fn new(pyo3: Option<&str>) -> anyhow::Result<Self> {
        let root = build::workspace();
        let suite = build::target()?.join("suite");
        match pyo3 {
            None => Ok(Self {
                root,
                target: suite,
            }),
            Some(version) => {
                Self::with_pyo3(version, &root, &suite.join(format!("pyo3-{version}")))
            }
        }
    }

    /// A folder of links to everything in the workspace, with a lock file in which the version of PyO3 is another.
    /// PyO3's other crates follow by themselves: each version of `pyo3` demands its own.
    fn with_pyo3(version: &str, original: &Path, folder: &Path) -> anyhow::Result<Self> {
        let root = folder.join("workspace");
        fs::create_dir_all(&root)?;
        for entry in fs::read_dir(original)? {
            let entry = entry?;
            if OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            }
            let link = root.join(entry.file_name());
            // One from before may lead to another checkout, if the target folder was moved.
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
        cmd!(
            shell,
            "cargo update --quiet --package pyo3 --precise {version}"
        )
        .run()
        .with_context(|| format!("cannot take PyO3 {version}"))?;
        Ok(Self {
            root,
            target: folder.to_owned(),
        })
    }
}
