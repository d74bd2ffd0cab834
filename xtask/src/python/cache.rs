//! What is made or downloaded is kept under cargo's target folder, and made once.
//!
//! An entry is a folder that appears whole or not at all: it is made in a temporary folder beside its place and
//! renamed when it is complete, under a lock of its own, so that two tasks that want the same entry at the same time
//! make it once. Making one entry may ask for others, as long as nothing asks in a circle.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The recipe that the entries were made by. Raise it with every change to what an entry contains: entries of other
/// recipes are never looked at.
const RECIPE: u32 = 1;

/// Returns the folder of an entry. If it is not there yet, `make` fills it.
pub(crate) fn obtain(
    name: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    obtain_in(&folder()?, name, make)
}

/// Returns the folder of an entry if it is there.
pub(super) fn get(name: &str) -> anyhow::Result<Option<PathBuf>> {
    Ok(Some(folder()?.join(name)).filter(|entry| entry.is_dir()))
}

/// `target/python/recipe-N`, in the target folder that cargo uses for this workspace.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    let target = match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"),
    };
    Ok(std::path::absolute(target)?.join(format!("python/recipe-{RECIPE}")))
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
    // Somebody else may have made it while we waited for the lock.
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

/// Holds the lock until the file is dropped, or the process ends in whatever way.
fn lock(path: &Path) -> anyhow::Result<File> {
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    // As `File::lock` of the standard library, which is younger than our minimum Rust version.
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
