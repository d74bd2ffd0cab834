//! A class with a `Cell`, `RefCell`, `Rc`, `UnsafeCell` or raw pointer in it.

use std::collections::HashSet;

use super::{Rule, guide};
use crate::{
    context::{Context, Ty},
    finding::{Finding, Place, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "pyclass-interior",
    severity: Severity::Unsound,
    title: "a class that is not thread-safe inside: `Cell`, `RefCell`, `Rc`, `UnsafeCell`",
    page: include_str!("../../rules/pyclass-interior.md"),
    guide: guide::STATICS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for item in &context.index.types {
        let Some(class) = &item.class else { continue };
        if class.unsendable {
            // PyO3 looks after it, at the price of `pyclass-unsendable`.
            continue;
        }
        for field in &item.fields {
            let Some(path) =
                unsynchronised(context, &field.ty, item.place.file, &mut HashSet::new())
            else {
                continue;
            };
            // Somebody has promised that the type is thread-safe, which is what `unsafe-marker` is about.
            let promised = context
                .index
                .markers
                .iter()
                .any(|marker| marker.ty.local() == Some(item.name.as_str()))
                || path.iter().any(|ty| {
                    context
                        .index
                        .markers
                        .iter()
                        .any(|marker| marker.ty.name == *ty && !marker.ty.is_unknown())
                });
            if promised {
                continue;
            }
            let span = syn::spanned::Spanned::span(&field.syntax.ty);
            let last = path
                .last()
                .map(|name| name.rsplit("::").next().unwrap_or(name))
                .unwrap_or_default();
            let through = if path.len() > 1 {
                format!(
                    ", through {}",
                    path[..path.len() - 1]
                        .iter()
                        .map(|name| format!("`{}`", name.trim_start_matches("crate::")))
                        .collect::<Vec<_>>()
                        .join(" and ")
                )
            } else {
                String::new()
            };
            found.push(
                Finding::new(
                    Place { file: item.place.file, span },
                    format!("`{}.{}` holds a `{last}`{through}, which threads must not share", item.name, field.name),
                )
                .label("not synchronised")
                .note("PyO3 from 0.23 on does not compile a class that is not `Sync`")
                .help("`pyo3_sync::PyMutex` or `PyProtected` in its place; an atomic for a `Cell` of a number; `Arc` for `Rc`"),
            );
        }
    }
}

/// The types from this one to the one that is not synchronised, going into types of the crate, and stopping at locks.
pub(super) fn unsynchronised(
    context: &Context<'_>,
    ty: &Ty,
    file: usize,
    seen: &mut HashSet<String>,
) -> Option<Vec<String>> {
    if is_lock(ty) {
        return None;
    }
    if matches!(
        ty.name.as_str(),
        "std::Cell"
            | "std::RefCell"
            | "std::Rc"
            | "std::UnsafeCell"
            | "std::OnceCell"
            | "once_cell_unsync::OnceCell"
    ) {
        return Some(vec![ty.name.clone()]);
    }
    if let Some(name) = ty.local() {
        if !seen.insert(name.to_owned()) {
            return None;
        }
        let item = context.index.type_named(name, file)?;
        if item.class.is_some() {
            return None;
        }
        for field in &item.fields {
            if let Some(mut path) = unsynchronised(context, &field.ty, item.place.file, seen) {
                path.insert(0, ty.name.clone());
                return Some(path);
            }
        }
        return None;
    }
    ty.arguments
        .iter()
        .find_map(|argument| unsynchronised(context, argument, file, seen))
}

/// Whatever is in one of these is reached by one thread at a time, or is another object's affair.
pub(super) fn is_lock(ty: &Ty) -> bool {
    matches!(
        ty.last(),
        "Mutex"
            | "RwLock"
            | "PyMutex"
            | "PyRwLock"
            | "PyProtected"
            | "GILProtected"
            | "ReentrantMutex"
            | "FairMutex"
            | "ThreadLocal"
            | "Py"
            | "Bound"
            | "PhantomData"
            | "fn"
    )
}
