//! Types of PyO3 that are gone, and the types of pyo3-sync that take their place under the same methods.
//!
//! A name is changed where it means PyO3's type: where a `use` brings it in (`imports`), behind `pyo3::sync::`, and, if the crate gets it
//! in one of these two ways somewhere, alone and behind modules of the crate. All of this is done with tokens, because much of it stands
//! within macros, where there is no syntax tree; `mentions` finds the places.

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
    // On free-threaded Python it is a compile error there that names `PyProtected`; where there is a GIL it goes on working.
    Rename {
        old: "GILProtected",
        path: "pyo3_sync::compat::GILProtected",
        new: "GILProtected",
    },
];

#[derive(Default)]
pub(super) struct Outcome {
    /// Each with the number of its file.
    pub(super) edits: Vec<(usize, Edit)>,
    /// In words.
    pub(super) done: Vec<String>,
    pub(super) left: Vec<String>,
}

/// A rename, as it is done in one crate.
struct Task {
    rename: &'static Rename,
    /// Some file has the new name for something else, or has it already: then the old name stays, as another name of the new type.
    keeps_name: bool,
}

impl Task {
    /// What is written in a `use`, behind `pyo3_sync::`; `alias` is what stood behind `as`.
    fn import(&self, alias: Option<&str>) -> String {
        let path = self.rename.path.trim_start_matches("pyo3_sync::");
        match alias {
            Some(alias) if alias == self.rename.new => path.to_owned(),
            Some(alias) => format!("{path} as {alias}"),
            None if self.keeps_name => format!("{path} as {}", self.rename.old),
            None => path.to_owned(),
        }
    }

    /// What a name becomes that gets its meaning from a `use`.
    fn name(&self) -> &'static str {
        if self.keeps_name {
            self.rename.old
        } else {
            self.rename.new
        }
    }
}

/// Where a mentioned name comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Written behind `pyo3::sync`.
    Pyo3,
    /// Another module of the crate, which has it from PyO3.
    Crate,
    /// Somewhere else: another type, of the same name.
    Other,
}

/// A file, and what its paths begin with.
struct File<'a> {
    number: usize,
    source: &'a SourceFile,
    mentions: Mentions,
    /// Names that mean the crate `pyo3` in this file, and those that mean its module `sync`.
    pyo3: Vec<String>,
    sync: Vec<String>,
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
        // Somebody may import it where this does not look; but not if the crate has a module that is called so.
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

    /// Where a name comes from that stands behind these modules.
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

    /// Whether the name alone means something else here.
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

    /// Whether it gets this type from PyO3 itself.
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
        // Unless they have a type of their own that is called the same.
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

/// What becomes of a name outside of `use`; the error is why it must stay.
fn in_path(file: &File<'_>, path: &PathMention, task: &Task) -> Result<Option<Edit>, String> {
    let origin = file.origin(&path.modules);
    if origin == Source::Pyo3 {
        if path.in_macro_variable {
            let (line, _) = file.source.position(path.range.start);
            return Err(format!(
                "{}:{line}: `{}` is a path through a variable of a macro; write `{}` there, in such a way that whoever uses the macro can",
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
