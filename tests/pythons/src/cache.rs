//! Caches interpreters, environments and tools under cargo's target folder.
//!
//! An entry is a folder. It is filled under a temporary name and renamed when it is complete, with
//! a lock of its own held, so that two processes fill it once. Filling an entry may require others,
//! but not in a cycle.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::build;

/// The version of the entries. Increase it when the contents of an entry change: entries of other
/// versions are not used.
const RECIPE: u32 = 1;

/// Returns the folder of an entry, which `make` fills if it does not exist.
pub(super) fn obtain(
    name: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    obtain_in(&folder()?, name, make)
}

/// Returns the folder of an entry if it exists.
pub(super) fn get(name: &str) -> anyhow::Result<Option<PathBuf>> {
    Ok(Some(folder()?.join(name)).filter(|entry| entry.is_dir()))
}

/// Returns `target/python/recipe-N`, in the target folder of the workspace.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(build::target()?.join(format!("python/recipe-{RECIPE}")))
}

fn obtain_in(
    folder: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let entry = folder.join(name);
    if entry.is_dir() {
        return Ok(entry);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let _lock = lock(&folder.join(format!("{name}.lock")))?;
    // Another process may have filled it while this one waited for the lock.
    if !entry.is_dir() {
        let temporary = tempfile::Builder::new()
            .prefix(&format!("{name}."))
            .tempdir_in(folder)?;
        let unfinished = temporary.path().join(name);
        fs::create_dir(&unfinished)?;
        make(&unfinished)?;
        fs::rename(&unfinished, &entry)?;
    }
    Ok(entry)
}

/// Locks a file until it is dropped or the process ends.
fn lock(path: &Path) -> anyhow::Result<File> {
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    // `File::lock` of the standard library requires Rust 1.89.
    fs4::FileExt::lock(&file).with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use anyhow::bail;

    use super::*;

    #[test]
    fn an_entry_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let entry = obtain_in(folder.path(), "entry", |entry| {
                        made.fetch_add(1, Ordering::Relaxed);
                        Ok(fs::write(entry.join("file"), "complete")?)
                    });
                    assert_eq!(
                        fs::read_to_string(entry.unwrap().join("file")).unwrap(),
                        "complete"
                    );
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let failed = obtain_in(folder.path(), "entry", |entry| {
            fs::write(entry.join("file"), "half")?;
            bail!("no more")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["entry.lock"]);
        assert!(
            obtain_in(folder.path(), "entry", |_| Ok(()))
                .unwrap()
                .is_dir()
        );
    }
}
