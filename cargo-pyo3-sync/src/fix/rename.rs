//! Types of PyO3 that are gone, and the types of pyo3-sync that take their place under the same methods.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{Item, UseTree, spanned::Spanned};

use super::Edit;
use crate::{context::Context, source::SourceFile};

struct Rename {
    old: &'static str,
    /// The path to import.
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

/// The edits, each with its file and what it is in words.
pub(super) fn plan(context: &Context<'_>) -> Vec<(usize, String, Edit)> {
    let renames: Vec<&Rename> = RENAMES
        .iter()
        // Unless they have a type of their own that is called the same, or use the one that keeps the old name.
        .filter(|rename| !context.index.is_local(rename.old))
        .filter(|rename| {
            context
                .files
                .iter()
                .any(|file| is_imported(&file.tree.items, rename.old) || is_qualified(file, rename))
        })
        .collect();
    let mut edits = Vec::new();
    for (number, file) in context.files.iter().enumerate() {
        let present: Vec<&Rename> = renames
            .iter()
            .copied()
            .filter(|rename| {
                file.text.contains(rename.old)
                    && !file.text.contains(&format!("compat::{}", rename.old))
            })
            .collect();
        let mut of_file = Vec::new();
        imports(file, &file.tree.items, &present, &mut of_file);
        for rename in &present {
            of_file.extend(
                uses(file, rename)
                    .into_iter()
                    .map(|(edit, _)| edit)
                    .filter(|edit| edit.text != file.text[edit.range.clone()]),
            );
        }
        let words: Vec<String> = present
            .iter()
            .map(|rename| format!("`{}` becomes `{}`", rename.old, rename.path))
            .collect();
        let words = words.join("\n");
        edits.extend(
            of_file
                .into_iter()
                .map(|edit| (number, words.clone(), edit)),
        );
    }
    edits
}

/// Whether some `use pyo3::..` brings the name in.
fn is_imported(items: &[Item], name: &str) -> bool {
    items.iter().any(|item| match item {
        Item::Mod(module) => module
            .content
            .as_ref()
            .is_some_and(|(_, items)| is_imported(items, name)),
        Item::Use(item) => starts_with(&item.tree, &["pyo3"]) && mentions(&item.tree, name),
        _ => false,
    })
}

fn is_qualified(file: &SourceFile, rename: &Rename) -> bool {
    file.text.contains(rename.old) && uses(file, rename).iter().any(|(_, qualified)| *qualified)
}

fn starts_with(tree: &UseTree, roots: &[&str]) -> bool {
    matches!(tree, UseTree::Path(path) if roots.iter().any(|root| path.ident == root))
}

/// Takes the names out of `use pyo3::..`, and imports the others.
fn imports(file: &SourceFile, items: &[Item], renames: &[&Rename], edits: &mut Vec<Edit>) {
    for item in items {
        match item {
            Item::Mod(module) => {
                if let Some((_, items)) = &module.content {
                    imports(file, items, renames, edits);
                }
            }
            Item::Use(item) => {
                let mentioned: Vec<&Rename> = renames
                    .iter()
                    .copied()
                    .filter(|rename| mentions(&item.tree, rename.old))
                    .collect();
                if mentioned.is_empty() {
                    continue;
                }
                if starts_with(&item.tree, &["crate", "self", "super"]) {
                    // What another module imports, under the name that it has there now.
                    rename_in_place(file, &item.tree, &mentioned, edits);
                } else if starts_with(&item.tree, &["pyo3"]) {
                    import_others(file, item, &mentioned, edits);
                }
            }
            _ => {}
        }
    }
}

fn rename_in_place(file: &SourceFile, tree: &UseTree, renames: &[&Rename], edits: &mut Vec<Edit>) {
    match tree {
        UseTree::Path(path) => rename_in_place(file, &path.tree, renames, edits),
        UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|tree| rename_in_place(file, tree, renames, edits)),
        UseTree::Name(name) => {
            if let Some(rename) = renames.iter().find(|rename| name.ident == rename.old) {
                edits.push(Edit {
                    range: file.range(name.ident.span()),
                    text: rename.new.to_owned(),
                });
            }
        }
        UseTree::Rename(_) | UseTree::Glob(_) => {}
    }
}

fn import_others(
    file: &SourceFile,
    item: &syn::ItemUse,
    renames: &[&Rename],
    edits: &mut Vec<Edit>,
) {
    let visibility = &file.text[file.range(item.vis.span())];
    let visibility = if visibility.is_empty() {
        String::new()
    } else {
        format!("{visibility} ")
    };
    let whole = file.range(item.span());
    let (line, _) = file.position(whole.start);
    let indent: String = file
        .line(line)
        .chars()
        .take_while(|letter| letter.is_whitespace())
        .collect();
    let imports: Vec<String> = renames
        .iter()
        .map(|rename| format!("{visibility}use {};", rename.path))
        .collect();
    let imports = imports.join(&format!("\n{indent}"));
    let names: Vec<&str> = renames.iter().map(|rename| rename.old).collect();
    match removal(file, &item.tree, &names) {
        // Its attributes stay.
        Removal::Whole => {
            let start = item.attrs.last().map_or(whole.start, |attribute| {
                let end = file.range(attribute.span()).end;
                let rest = &file.text[end..];
                end + rest.len() - rest.trim_start().len()
            });
            edits.push(Edit {
                range: start..whole.end,
                text: imports,
            });
        }
        Removal::Parts(parts) => {
            edits.extend(parts.into_iter().map(|range| Edit {
                range,
                text: String::new(),
            }));
            edits.push(Edit {
                range: whole.end..whole.end,
                text: format!("\n{indent}{imports}"),
            });
        }
        Removal::Nothing => {}
    }
}

fn mentions(tree: &UseTree, name: &str) -> bool {
    match tree {
        UseTree::Path(path) => mentions(&path.tree, name),
        UseTree::Name(found) => found.ident == name,
        UseTree::Group(group) => group.items.iter().any(|tree| mentions(tree, name)),
        UseTree::Rename(_) | UseTree::Glob(_) => false,
    }
}

enum Removal {
    Nothing,
    Whole,
    Parts(Vec<std::ops::Range<usize>>),
}

/// What of a `use` to take away, so that it does not mention the names any more.
fn removal(file: &SourceFile, tree: &UseTree, names: &[&str]) -> Removal {
    match tree {
        UseTree::Name(found) if names.iter().any(|name| found.ident == name) => Removal::Whole,
        UseTree::Path(path) => removal(file, &path.tree, names),
        UseTree::Group(group) => {
            let outcomes: Vec<Removal> = group
                .items
                .iter()
                .map(|tree| removal(file, tree, names))
                .collect();
            if outcomes
                .iter()
                .all(|outcome| matches!(outcome, Removal::Whole))
            {
                return Removal::Whole;
            }
            let mut parts = Vec::new();
            let count = group.items.len();
            for (index, (outcome, tree)) in outcomes.into_iter().zip(&group.items).enumerate() {
                match outcome {
                    Removal::Nothing => {}
                    Removal::Parts(inner) => parts.extend(inner),
                    Removal::Whole => {
                        let range = file.range(tree.span());
                        // With the comma behind it, or the one before if it is the last.
                        if index + 1 < count {
                            let next = file.range(group.items[index + 1].span()).start;
                            parts.push(range.start..next);
                        } else {
                            let before = file.range(group.items[index - 1].span()).end;
                            parts.push(before..range.end);
                        }
                    }
                }
            }
            if parts.is_empty() {
                Removal::Nothing
            } else {
                Removal::Parts(parts)
            }
        }
        _ => Removal::Nothing,
    }
}

/// Everywhere but in `use`: the name alone, and behind `pyo3::sync::`, also within macros. Each with whether it was written with its path.
fn uses(file: &SourceFile, rename: &Rename) -> Vec<(Edit, bool)> {
    let mut found = Vec::new();
    let Ok(stream) = file.text.parse::<TokenStream>() else {
        return found;
    };
    // These tokens were parsed again, from the whole text: their bytes are those of the text.
    find_in(stream, rename, &mut found);
    found
}

fn find_in(stream: TokenStream, rename: &Rename, found: &mut Vec<(Edit, bool)>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut in_use = false;
    for (index, token) in tokens.iter().enumerate() {
        match token {
            // The braces of a `use` belong to it.
            TokenTree::Group(group) if !in_use => find_in(group.stream(), rename, found),
            TokenTree::Ident(ident) if ident == "use" => in_use = true,
            TokenTree::Punct(punct) if punct.as_char() == ';' => in_use = false,
            TokenTree::Ident(ident) if ident == rename.old && !in_use => {
                let end = ident.span().byte_range().end;
                let (start, qualified) = path_before(&tokens, index, ident);
                let new = if qualified { rename.path } else { rename.new };
                found.push((
                    Edit {
                        range: start..end,
                        text: new.to_owned(),
                    },
                    qualified,
                ));
            }
            _ => {}
        }
    }
}

/// Where `pyo3::sync::Name` or `sync::Name` begins.
fn path_before(tokens: &[TokenTree], index: usize, ident: &Ident) -> (usize, bool) {
    let start = ident.span().byte_range().start;
    let mut first = index;
    let mut names = Vec::new();
    while first >= 3 {
        let colons = matches!(&tokens[first - 1], TokenTree::Punct(punct) if punct.as_char() == ':')
            && matches!(&tokens[first - 2], TokenTree::Punct(punct) if punct.as_char() == ':');
        let TokenTree::Ident(name) = &tokens[first - 3] else {
            break;
        };
        if !colons {
            break;
        }
        names.push(name.to_string());
        first -= 3;
    }
    let is_pyo3 = names.iter().any(|name| name == "pyo3" || name == "sync");
    if !is_pyo3 {
        return (start, false);
    }
    let mut start = tokens[first].span().byte_range().start;
    // `::pyo3::sync::Name`.
    let leads = first >= 2
        && matches!(&tokens[first - 1], TokenTree::Punct(punct) if punct.as_char() == ':')
        && matches!(&tokens[first - 2], TokenTree::Punct(punct) if punct.as_char() == ':');
    if leads {
        start = tokens[first - 2].span().byte_range().start;
    }
    (start, true)
}
