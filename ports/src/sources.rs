//! The sources of published extensions, and copies of them with changes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use pythons::{
    build,
    published::{self, Registry},
};

use crate::list::{Change, Port, Source};

/// Returns `target/ports`, the folder for all sources and builds.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    Ok(build::target()?.join("ports"))
}

/// Returns the folder of the published sources, which are fetched once.
pub(super) fn fetch(source: Source) -> anyhow::Result<PathBuf> {
    let (registry, name, version) = match source {
        Source::Folder(folder) => return Ok(build::workspace().join(folder)),
        Source::Sdist { name, version } => (Registry::Python, name, version),
        Source::Crate { name, version } => (Registry::Rust, name, version),
    };
    published::fetch(registry, name, version, &folder()?.join("published"))
}

/// Lays out a port's sources with these changes made.
pub(super) fn lay_out<'a>(
    port: &Port,
    changes: impl IntoIterator<Item = &'a Change>,
    pyo3_sync: &Path,
    to: &Path,
) -> anyhow::Result<()> {
    let pyo3_sync = pyo3_sync.to_str().context("the folder's name is text")?;
    let changes: Vec<_> = changes
        .into_iter()
        .map(|change| Replacement {
            file: change.file,
            from: change.from.to_owned(),
            to: change.to.replace("{pyo3-sync}", pyo3_sync),
        })
        .collect();
    copy(&fetch(port.source)?, to, &changes)?;
    if let Some(added) = port.module.added {
        copy(
            &build::workspace().join(added),
            &to.join(port.module.folder),
            &[],
        )?;
    }
    Ok(())
}

/// A change of a file, ready to be made.
pub(super) struct Replacement {
    pub(super) file: &'static str,
    pub(super) from: String,
    pub(super) to: String,
}

impl Replacement {
    fn make(&self, text: &str) -> anyhow::Result<String> {
        let places = text.matches(&self.from).count();
        ensure!(
            places == 1,
            "in {} there are {places} places to change, not one, that read:\n{}",
            self.file,
            self.from
        );
        Ok(text.replacen(&self.from, &self.to, 1))
    }
}

/// Copies a folder with changes. A file with the same contents is not written, so that cargo does
/// not build it again.
pub(super) fn copy(from: &Path, to: &Path, changes: &[Replacement]) -> anyhow::Result<()> {
    for change in changes {
        let file = from.join(change.file);
        ensure!(file.is_file(), "there is no {} to change", file.display());
    }
    copy_folder(from, Path::new(""), to, changes)
        .with_context(|| format!("cannot copy {}", from.display()))
}

fn copy_folder(
    from: &Path,
    inside: &Path,
    to: &Path,
    changes: &[Replacement],
) -> anyhow::Result<()> {
    fs::create_dir_all(to.join(inside))?;
    for entry in fs::read_dir(from.join(inside))? {
        let entry = entry?;
        let inside = inside.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            // Folders of this workspace may contain builds.
            if entry.file_name() != "target" && entry.file_name() != "__pycache__" {
                copy_folder(from, &inside, to, changes)?;
            }
            continue;
        }
        let mut content = fs::read(entry.path())?;
        for change in changes
            .iter()
            .filter(|change| inside == Path::new(change.file))
        {
            content = change.make(&String::from_utf8(content)?)?.into_bytes();
        }
        let place = to.join(&inside);
        if fs::read(&place).ok().as_ref() != Some(&content) {
            fs::write(&place, content)?;
        }
    }
    Ok(())
}

/// Returns the number of lines that the changes add, replace or remove.
pub(super) fn lines(changes: &[Change]) -> usize {
    changes.iter().map(lines_of).sum()
}

fn lines_of(change: &Change) -> usize {
    let (mut from, mut to): (Vec<_>, Vec<_>) =
        (change.from.lines().collect(), change.to.lines().collect());
    // Lines that stay.
    from.retain(|line| match to.iter().position(|other| other == line) {
        Some(same) => {
            to.remove(same);
            false
        }
        None => true,
    });
    to.retain(|line| !line.is_empty());
    from.len().max(to.len())
}

/// Returns a copy of this crate with changes, and with links to the rest of the workspace.
pub(super) fn broken_crate(changes: &[Change]) -> anyhow::Result<PathBuf> {
    let (original, copied) = (build::workspace(), folder()?.join("broken-crate"));
    fs::create_dir_all(&copied)?;
    for entry in fs::read_dir(&original)? {
        let entry = entry?;
        let (name, link) = (entry.file_name(), copied.join(entry.file_name()));
        let is_own = ["src", "target", ".git", "Cargo.lock"]
            .iter()
            .any(|own| name == *own);
        if !is_own && !link.exists() {
            build::link(&entry.path(), &link)?;
        }
    }
    let mut made = Vec::new();
    for change in changes {
        let Some(file) = change.file.strip_prefix("src/") else {
            bail!("{} is not in src", change.file)
        };
        made.push(Replacement {
            file,
            from: change.from.to_owned(),
            to: change.to.to_owned(),
        });
    }
    copy(&original.join("src"), &copied.join("src"), &made)?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_stay_do_not_count() {
        let change = |from, to| Change { file: "", from, to };
        assert_eq!(lines_of(&change("use a;", "use b;")), 1);
        assert_eq!(lines_of(&change("first", "new\nfirst")), 1);
        assert_eq!(
            lines_of(&change(
                "use {\n    a,\n    b,\n};",
                "use {\n    b,\n};\nuse a;"
            )),
            1
        );
        assert_eq!(lines_of(&change("use {a, b};", "use a;\nuse b;")), 2);
        assert_eq!(lines_of(&change("[x]", "[new]\npath\n\n[x]")), 2);
        assert_eq!(lines_of(&change("a\nb", "a")), 1);
    }

    #[test]
    fn a_change_that_does_not_apply_is_an_error() {
        let change = |from: &str| Replacement {
            file: "lib.rs",
            from: from.to_owned(),
            to: "c".to_owned(),
        };
        assert_eq!(change("a").make("ab").unwrap(), "cb");
        for text in ["b", "aa"] {
            let error = change("a").make(text).unwrap_err().to_string();
            assert!(error.contains("lib.rs"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(copy(folder.path(), &folder.path().join("to"), &[change("a")]).is_err());
    }
}
