//! Whether there is a way back: the files are in git, and nothing in them is uncommitted.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

/// An error if what is about to be changed could not be told from other changes, or not be undone.
pub fn refuse_if_dirty(path: &Path, allow_dirty: bool, allow_no_vcs: bool) -> Result<()> {
    let folder = if path.is_dir() {
        path
    } else {
        path.parent()
            .filter(|parent| parent.is_dir())
            .unwrap_or(Path::new("."))
    };
    let status = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["status", "--porcelain", "--", "."])
        .output();
    match status {
        Ok(output) if output.status.success() => {
            let dirty = String::from_utf8_lossy(&output.stdout)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>();
            if !dirty.is_empty() && !allow_dirty {
                bail!(
                    "there are changes that are not committed, and what this changes could not be told from them; commit them, or say \
                     `--allow-dirty`\n{}",
                    dirty.join("\n")
                );
            }
            Ok(())
        }
        _ if allow_no_vcs => Ok(()),
        _ => {
            bail!("this is not in git, so that there is no way back; say `--allow-no-vcs` to go on")
        }
    }
}
