//! Replaces types that PyO3 has removed by types of pyo3-sync with the same methods.
//!
//! A name is changed only where it means PyO3's type:
//!
//! - in a `use` that imports it (`imports`),
//! - in a path that begins with `pyo3::sync::`,
//! - alone or after modules of the crate, if any file of the crate has one of the first two.
//!
//! The search (`mentions`) works on tokens, because many of the names are within macros, where
//! there is no syntax tree.

mod imports;
mod mentions;

use std::collections::HashSet;

use super::Edit;
use crate::{context::Context, source::SourceFile};
use mentions::{Mentions, PathMention};

struct Rename {
    old: &'static str,
    /// The path of the new type.
    path: &'static str,
    new: &'static str,
}

const RENAMES: [Rename; 2] = [
    Rename {
        old: "GILOnceCell",
        path: "pyo3_sync::PyOnceLock",
        new: "PyOnceLock",
    },
    // `compat::GILProtected` keeps working in builds with a GIL. On free-threaded Python, using it
    // is a compile error that names `PyProtected`.
    Rename {
        old: "GILProtected",
        path: "pyo3_sync::compat::GILProtected",
        new: "GILProtected",
    },
];

#[derive(Default)]
pub(super) struct Outcome {
    /// Edits, each with the number of its file.
    pub(super) edits: Vec<(usize, Edit)>,
    /// Descriptions of the changes.
    pub(super) done: Vec<String>,
    pub(super) left: Vec<String>,
}

/// A rename within one crate.
struct Task {
    rename: &'static Rename,
    /// Set if some file mentions both the old and the new name. The new name may have another
    /// meaning there, so the crate keeps the old name as an alias of the new type.
    keeps_name: bool,
}

impl Task {
    /// Returns the text of the new import after `pyo3_sync::`.
    ///
    /// `alias` is the alias of the original import.
    fn import(&self, alias: Option<&str>) -> String {
        let path = self.rename.path.trim_start_matches("pyo3_sync::");
        match alias {
            Some(alias) if alias == self.rename.new => path.to_owned(),
            Some(alias) => format!("{path} as {alias}"),
            None if self.keeps_name => format!("{path} as {}", self.rename.old),
            None => path.to_owned(),
        }
    }

    /// Returns the replacement for a name that a `use` imports.
    fn name(&self) -> &'static str {
        if self.keeps_name {
            self.rename.old
        } else {
            self.rename.new
        }
    }
}

/// The origin of a mentioned name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The module `pyo3::sync`, which precedes the name.
    Pyo3,
    /// A module of the crate, which imports the name from PyO3.
    Crate,
    /// Anywhere else: another type with the same name.
    Other,
}

/// A file, and the names that refer to PyO3 in it.
struct File<'a> {
    number: usize,
    source: &'a SourceFile,
    mentions: Mentions,
    /// The names of the crate `pyo3` in this file.
    pyo3: Vec<String>,
    /// The names of the module `pyo3::sync` in this file.
    sync: Vec<String>,
    /// The modules that the crate declares.
    modules: &'a HashSet<String>,
}

impl<'a> File<'a> {
    fn new(
        number: usize,
        source: &'a SourceFile,
        mentions: Mentions,
        modules: &'a HashSet<String>,
    ) -> Self {
        let mut file = File {
            number,
            source,
            mentions,
            pyo3: vec!["pyo3".to_owned()],
            sync: Vec::new(),
            modules,
        };
        // The import of `sync` may be in a place that is not searched, such as a macro of another
        // crate. If the crate declares a module `sync`, the name means that module instead.
        if !modules.contains("sync") {
            file.sync.push("sync".to_owned());
        }
        let leaves: Vec<_> = file
            .mentions
            .uses
            .iter()
            .flat_map(|item| item.leaves())
            .collect();
        for leaf in &leaves {
            if leaf.full() == ["pyo3"] {
                file.pyo3.push(leaf.name().to_owned());
            }
        }
        for leaf in &leaves {
            if file.is_module_sync(&leaf.full()) {
                file.sync.push(leaf.name().to_owned());
            }
        }
        file
    }

    fn is_module_sync(&self, path: &[String]) -> bool {
        match path {
            [] => false,
            [only] => self.sync.contains(only),
            [.., parent, last] if last == "sync" && self.pyo3.contains(parent) => true,
            [before @ .., last] => {
                self.sync.contains(last)
                    && before.iter().all(|name| name == "self" || name == "super")
            }
        }
    }

    /// Returns the origin of a name that follows these modules.
    fn origin(&self, modules: &[String]) -> Source {
        let first = modules.first().map(String::as_str).unwrap_or_default();
        if self.is_module_sync(modules) {
            Source::Pyo3
        } else if matches!(first, "crate" | "self" | "super") || self.modules.contains(first) {
            Source::Crate
        } else {
            Source::Other
        }
    }

    /// Returns `true` if the unqualified name does not mean PyO3's type in this file.
    fn has_another(&self, name: &str) -> bool {
        self.mentions.uses.iter().any(|item| {
            item.leaves().iter().any(|leaf| {
                let of_ours = leaf.modules == ["pyo3_sync", "compat"];
                (leaf.ident == name && self.origin(&leaf.modules) == Source::Other)
                    || (leaf.is_glob() && of_ours)
            })
        })
    }

    fn mentions_name(&self, name: &str) -> bool {
        self.mentions.names.contains(name)
    }

    /// Returns `true` if the file gets this type directly from PyO3.
    fn imports(&self, name: &str) -> bool {
        let in_use = self.mentions.uses.iter().any(|item| {
            item.leaves().iter().any(|leaf| {
                (leaf.ident == name || leaf.is_glob()) && self.origin(&leaf.modules) == Source::Pyo3
            })
        });
        let in_path = self
            .mentions
            .paths
            .iter()
            .any(|path| path.name == name && self.origin(&path.modules) == Source::Pyo3);
        self.mentions_name(name) && (in_use || in_path)
    }
}

pub(super) fn plan(context: &Context<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if !context
        .files
        .iter()
        .any(|file| RENAMES.iter().any(|rename| file.text.contains(rename.old)))
    {
        return outcome;
    }
    let found: Vec<Mentions> = context.files.iter().map(mentions::find).collect();
    let mut modules: HashSet<String> = context
        .source
        .module_paths
        .iter()
        .flatten()
        .cloned()
        .collect();
    for mentions in &found {
        modules.extend(mentions.modules.iter().cloned());
    }
    let files: Vec<File<'_>> = found
        .into_iter()
        .zip(context.files)
        .enumerate()
        .map(|(number, (mentions, source))| File::new(number, source, mentions, &modules))
        .collect();
    let tasks: Vec<Task> = RENAMES
        .iter()
        // A type of the crate can have the same name as PyO3's.
        .filter(|rename| !context.index.is_local(rename.old))
        .filter(|rename| files.iter().any(|file| file.imports(rename.old)))
        .map(|rename| Task {
            rename,
            keeps_name: rename.new != rename.old
                && files
                    .iter()
                    .any(|file| file.mentions_name(rename.old) && file.mentions_name(rename.new)),
        })
        .collect();
    for file in &files {
        let here: Vec<&Task> = tasks
            .iter()
            .filter(|task| file.mentions_name(task.rename.old))
            .filter(|task| !file.has_another(task.rename.old))
            .collect();
        let mut edits = imports::edits(file, &here);
        for path in &file.mentions.paths {
            let Some(task) = here.iter().find(|task| path.name == task.rename.old) else {
                continue;
            };
            match in_path(file, path, task) {
                Ok(edit) => edits.extend(edit),
                Err(why) => outcome.left.push(why),
            }
        }
        edits.retain(|edit| edit.text != file.source.text[edit.range.clone()]);
        if edits.is_empty() {
            continue;
        }
        for task in here {
            let words = format!("`{}` becomes `{}`", task.rename.old, task.rename.path);
            if !outcome.done.contains(&words) {
                outcome.done.push(words);
            }
        }
        outcome
            .edits
            .extend(edits.into_iter().map(|edit| (file.number, edit)));
    }
    outcome
}

/// Returns the edit for a path outside of `use`, if the path has to change.
///
/// # Errors
///
/// Returns a message for the user if the path has to be changed by hand.
fn in_path(file: &File<'_>, path: &PathMention, task: &Task) -> Result<Option<Edit>, String> {
    let origin = file.origin(&path.modules);
    if origin == Source::Pyo3 {
        if path.in_macro_variable {
            let (line, _) = file.source.position(path.range.start);
            return Err(format!(
                "{}:{line}: `{}` is a path through a variable of a macro; write `{}` there, in \
                 such a way that whoever uses the macro can",
                file.source.path.display(),
                file.source.text[path.range.clone()].trim(),
                task.rename.path,
            ));
        }
        return Ok(Some(Edit {
            range: path.range.clone(),
            text: task.rename.path.to_owned(),
        }));
    }
    let is_alone = path.modules.is_empty() && !path.is_associated;
    Ok((is_alone || origin == Source::Crate).then(|| Edit {
        range: path.name_range.clone(),
        text: task.name().to_owned(),
    }))
}
