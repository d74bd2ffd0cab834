//! Edits of `use` items.
//!
//! Renamed types are removed from the `use` of PyO3. A `use` of pyo3-sync is added after it, or
//! replaces it if no other name remains.

use std::ops::Range;

use syn::{UseTree, spanned::Spanned};

use super::{
    super::Edit,
    File, Source, Task,
    mentions::{Leaf, Use},
};
use crate::source::SourceFile;

pub(super) fn edits(file: &File<'_>, tasks: &[&Task]) -> Vec<Edit> {
    let mut edits = Vec::new();
    for item in &file.mentions.uses {
        of_item(file, item, tasks, &mut edits);
    }
    edits
}

fn of_item(file: &File<'_>, item: &Use, tasks: &[&Task], edits: &mut Vec<Edit>) {
    let mut imports = Vec::new();
    let mut leaving = Vec::new();
    for leaf in item.leaves() {
        let origin = file.origin(&leaf.modules);
        if leaf.is_glob() && origin == Source::Pyo3 {
            imports.extend(
                tasks
                    .iter()
                    .filter(|task| only_by_globs(file, task.rename.old))
                    .map(|task| task.import(None)),
            );
            continue;
        }
        let Some(task) = tasks.iter().find(|task| leaf.ident == task.rename.old) else {
            continue;
        };
        match origin {
            Source::Pyo3 => {
                imports.push(task.import(leaf.alias.as_deref()));
                leaving.push(file.source.range(leaf.span).start);
            }
            Source::Crate => edits.push(Edit {
                range: file.source.range(leaf.span),
                text: task.name().to_owned(),
            }),
            Source::Other => {}
        }
    }
    let import = match imports.as_slice() {
        [] => return,
        [one] => format!("use pyo3_sync::{one};"),
        several => format!("use pyo3_sync::{{{}}};", several.join(", ")),
    };
    match removal(file.source, &item.item.tree, &leaving) {
        // The attributes and the visibility stay.
        Removal::Whole => edits.push(Edit {
            range: item.keyword..item.range.end,
            text: import,
        }),
        Removal::Parts(parts) => {
            edits.extend(parts.into_iter().map(|range| Edit {
                range,
                text: String::new(),
            }));
            let (line, _) = file.source.position(item.range.start);
            let indent: String = file
                .source
                .line(line)
                .chars()
                .take_while(|letter| letter.is_whitespace())
                .collect();
            let before = &file.source.text[item.range.start..item.keyword];
            edits.push(Edit {
                range: item.range.end..item.range.end,
                text: format!("\n{indent}{before}{import}"),
            });
        }
    }
}

/// Returns `true` if the name can only come from a glob such as `use pyo3::sync::*`.
///
/// This is the case if the file uses the name unqualified and no `use` lists it.
fn only_by_globs(file: &File<'_>, name: &str) -> bool {
    let is_named = |leaf: &Leaf| leaf.ident == name;
    let alone = file
        .mentions
        .paths
        .iter()
        .any(|path| path.name == name && path.modules.is_empty());
    alone
        && !file
            .mentions
            .uses
            .iter()
            .any(|item| item.leaves().iter().any(is_named))
}

enum Removal {
    Whole,
    Parts(Vec<Range<usize>>),
}

/// Returns the parts to remove from a `use`.
///
/// `leaving` contains the offsets at which the removed names begin.
fn removal(file: &SourceFile, tree: &UseTree, leaving: &[usize]) -> Removal {
    match tree {
        UseTree::Path(path) => removal(file, &path.tree, leaving),
        UseTree::Name(_) | UseTree::Rename(_) => {
            if leaving.contains(&file.range(tree.span()).start) {
                Removal::Whole
            } else {
                Removal::Parts(Vec::new())
            }
        }
        UseTree::Glob(_) => Removal::Parts(Vec::new()),
        UseTree::Group(group) => {
            let outcomes: Vec<Removal> = group
                .items
                .iter()
                .map(|tree| removal(file, tree, leaving))
                .collect();
            if !outcomes.is_empty()
                && outcomes
                    .iter()
                    .all(|outcome| matches!(outcome, Removal::Whole))
            {
                return Removal::Whole;
            }
            let ranges: Vec<Range<usize>> = group
                .items
                .iter()
                .map(|tree| file.range(tree.span()))
                .collect();
            let mut parts = Vec::new();
            for (index, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    Removal::Parts(inner) => parts.extend(inner),
                    // Removes the following comma too, or the preceding one for the last item.
                    Removal::Whole => parts.push(match ranges.get(index + 1) {
                        Some(next) => ranges[index].start..next.start,
                        None => ranges[index - 1].end..ranges[index].end,
                    }),
                }
            }
            Removal::Parts(parts)
        }
    }
}
