//! `unsafe impl Sync` and `Send` that rest on the GIL.

use std::collections::HashSet;

use super::{
    Rule, guide,
    pyclass_interior::{is_lock, unsynchronised},
};
use crate::{
    context::{Context, Ty},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "unsafe-marker",
    severity: Severity::Unsound,
    title: "`unsafe impl Send` or `Sync` that rests on the GIL",
    page: include_str!("../../rules/unsafe-marker.md"),
    guide: guide::GIL_PROTECTED,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for marker in &context.index.markers {
        let file = marker.place.file;
        let comment = context.files[file]
            .comment_above(context.line(marker.place))
            .to_lowercase();
        let names_the_gil = mentions_gil(&comment);
        let Some(name) = marker.ty.local() else {
            continue;
        };
        let Some(item) = context.index.type_named(name, file) else {
            continue;
        };
        let mut cells = Vec::new();
        for field in &item.fields {
            unsynchronised(
                context,
                &field.ty,
                file,
                &mut Vec::new(),
                &mut HashSet::new(),
                &mut cells,
            );
        }
        let pointer = item.fields.iter().any(|field| has_pointer(&field.ty));
        let is_class = item.class.is_some();
        // `Send` alone is unsound only if a clone of an `Rc` remains in the first thread, which is
        // not visible here. `Sync` lets threads share the value, so its content must be
        // synchronized.
        let reason = match (cells.first(), marker.marker) {
            (Some(found), "Sync") => Some(format!(
                "it has a `{}` in it, which counts or writes without synchronisation",
                found.cell
            )),
            _ if names_the_gil => Some("the comment says that the GIL protects it".to_owned()),
            (_, "Sync") if pointer && is_class && !comment.contains("safety") => {
                Some("it is a class with a raw pointer in it, and threads may share it".to_owned())
            }
            _ => None,
        };
        let Some(reason) = reason else { continue };
        found.push(
            Finding::new(
                marker.place,
                format!(
                    "`{name}` is declared `{}`, and nothing but the GIL makes it so",
                    marker.marker
                ),
            )
            .label(reason)
            .related(item.place, "this type")
            .help(
                "put what changes in a `pyo3_sync::PyProtected` (in place of a `RefCell`) or a \
                 `PyMutex`, and drop the `unsafe impl`; if something else protects it, say what in \
                 a `// SAFETY:` comment and allow this",
            ),
        );
    }
}

fn mentions_gil(comment: &str) -> bool {
    comment
        .split(|letter: char| !letter.is_alphanumeric())
        .any(|word| word == "gil")
}

fn has_pointer(ty: &Ty) -> bool {
    if is_lock(ty) {
        return false;
    }
    ty.is("*") || ty.is("std::NonNull") || ty.arguments.iter().any(has_pointer)
}
