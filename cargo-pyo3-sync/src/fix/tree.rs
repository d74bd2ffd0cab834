//! Checks that the fixes can be undone: git tracks the files and has no uncommitted changes.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

/// Checks that the files at `path` are in git, without uncommitted changes.
///
/// # Errors
///
/// Returns an error if there are uncommitted changes, unless `allow_dirty` is set. Returns an error
/// if `git status` fails, unless `allow_no_vcs` is set.
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
                    "there are changes that are not committed, and what this changes could not be \
                     told from them; commit them, or say `--allow-dirty`\n{}",
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
