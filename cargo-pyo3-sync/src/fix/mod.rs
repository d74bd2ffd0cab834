//! Mechanical fixes: renamed types, `frozen` for classes that nothing borrows mutably, and the
//! dependency on pyo3-sync.
//!
//! Fixes are planned as text edits, shown as a diff, and written only on request. Every changed
//! Rust file is parsed before any file is written. If one of them does not parse, `plan` returns an
//! error and no file is written.

mod dependency;
mod frozen;
mod rename;
mod tree;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use semver::Version;
use similar::TextDiff;

use crate::{
    context::Context,
    workspace::{self, Crate},
};

pub use tree::refuse_if_dirty;

/// A replacement for a range of a file's text.
#[derive(Debug, Clone)]
struct Edit {
    range: Range<usize>,
    text: String,
}

/// A file with its text before and after the edits.
pub struct Change {
    pub path: PathBuf,
    pub before: String,
    pub after: String,
}

#[derive(Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// Descriptions of the changes.
    pub done: Vec<String>,
    /// Changes that have to be made by hand, each with the reason.
    pub left: Vec<String>,
}

/// Plans all mechanical fixes for the crates under `path`.
///
/// `local` is a checkout of pyo3-sync to depend on, instead of the published crate.
pub fn plan(path: &Path, local: Option<&Path>) -> Result<Plan> {
    let project = workspace::load(path)?;
    let mut plan = Plan::default();
    let mut texts: BTreeMap<PathBuf, (String, String)> = BTreeMap::new();
    let mut manifests: Vec<&Crate> = Vec::new();
    for source in &project.crates {
        let context = Context::new(source);
        let mut edits: BTreeMap<usize, Vec<Edit>> = BTreeMap::new();
        frozen::plan(&context, &mut edits, &mut plan);
        let renames = rename::plan(&context);
        match unsupported(source) {
            Some(why) if !renames.edits.is_empty() => plan.left.push(why),
            _ => {
                if !renames.edits.is_empty() && !source.has_pyo3_sync {
                    manifests.push(source);
                }
                for (file, edit) in renames.edits {
                    edits.entry(file).or_default().push(edit);
                }
                add_new(&mut plan.done, renames.done);
                add_new(&mut plan.left, renames.left);
            }
        }
        for (number, edits) in edits {
            let file = &source.files[number];
            // A file that belongs to several targets is changed once.
            if texts.contains_key(&file.path) {
                continue;
            }
            let after = apply(&file.text, edits);
            if let Err(error) = syn::parse_file(&after) {
                bail!(
                    "{}: the change would not parse: {error}; nothing was written",
                    file.path.display()
                );
            }
            texts.insert(file.path.clone(), (file.text.clone(), after));
        }
    }
    for source in manifests {
        let Some(manifest) = &source.manifest else {
            plan.left.push(format!(
                "{}: has no Cargo.toml; it needs `pyo3-sync` as a dependency",
                source.root.display()
            ));
            continue;
        };
        if texts.contains_key(manifest) {
            continue;
        }
        let before = std::fs::read_to_string(manifest)
            .with_context(|| format!("reading {}", manifest.display()))?;
        let seen_from_here = local.map(|local| seen_from(manifest, local)).transpose()?;
        let after = dependency::add(&before, seen_from_here.as_deref())?;
        plan.done.push(format!(
            "`pyo3-sync` among the dependencies of {}",
            source.name
        ));
        texts.insert(manifest.clone(), (before, after));
    }
    plan.changes = texts
        .into_iter()
        .filter(|(_, (before, after))| before != after)
        .map(|(path, (before, after))| Change {
            path,
            before,
            after,
        })
        .collect();
    Ok(plan)
}

/// Converts a path from relative to the current directory to relative to the manifest's directory.
///
/// Absolute paths are returned unchanged.
fn seen_from(manifest: &Path, path: &Path) -> Result<PathBuf> {
    let full = |path: &Path| {
        path.canonicalize()
            .with_context(|| format!("there is no {}", path.display()))
    };
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let (manifest, path) = (full(manifest)?, full(path)?);
    let folder = manifest.parent().unwrap_or(&manifest);
    Ok(pathdiff::diff_paths(&path, folder).unwrap_or(path))
}

/// Appends the entries of `more` that `words` does not contain yet.
///
/// Several crates of a workspace can report the same entry.
fn add_new(words: &mut Vec<String>, more: Vec<String>) {
    for word in more {
        if !words.contains(&word) {
            words.push(word);
        }
    }
}

/// Returns the reason why the crate cannot depend on pyo3-sync, if there is one.
fn unsupported(source: &Crate) -> Option<String> {
    let version = source.pyo3.as_ref()?;
    if *version < Version::new(0, 26, 0) {
        return Some(format!(
            "{}: it uses PyO3 {version}, and pyo3-sync needs 0.26 or later; upgrade PyO3 first",
            source.name
        ));
    }
    if *version >= Version::new(0, 31, 0) {
        return Some(format!(
            "{}: it uses PyO3 {version}, and this version of pyo3-sync goes up to 0.30",
            source.name
        ));
    }
    None
}

/// Returns the text with the edits applied. If two edits overlap, the first takes precedence.
fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut result = String::with_capacity(text.len());
    let mut position = 0;
    for edit in edits {
        if edit.range.start < position {
            // An overlapping deletion still removes the rest of its range.
            if edit.text.is_empty() {
                position = position.max(edit.range.end);
            }
            continue;
        }
        result.push_str(&text[position..edit.range.start]);
        result.push_str(&edit.text);
        position = edit.range.end;
    }
    result.push_str(&text[position..]);
    result
}

impl Plan {
    pub fn diff(&self) -> String {
        self.changes
            .iter()
            .map(|change| {
                let name = change.path.display().to_string();
                TextDiff::from_lines(&change.before, &change.after)
                    .unified_diff()
                    .header(&name, &name)
                    .to_string()
            })
            .collect()
    }

    pub fn write(&self) -> Result<()> {
        for change in &self.changes {
            // The file may have been edited since it was read for the diff.
            let now = std::fs::read_to_string(&change.path)
                .with_context(|| format!("reading {}", change.path.display()))?;
            if now != change.before {
                bail!(
                    "{} has changed meanwhile; run it again",
                    change.path.display()
                );
            }
        }
        for change in &self.changes {
            std::fs::write(&change.path, &change.after)
                .with_context(|| format!("writing {}", change.path.display()))?;
        }
        Ok(())
    }
}
