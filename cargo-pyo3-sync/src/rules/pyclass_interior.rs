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
            // PyO3 checks the thread at run time, which `pyclass-unsendable` reports.
            continue;
        }
        for field in &item.fields {
            let mut paths = Vec::new();
            unsynchronised(
                context,
                &field.ty,
                item.place.file,
                &mut Vec::new(),
                &mut HashSet::new(),
                &mut paths,
            );
            // An `unsafe impl` declares one of the types thread-safe. The rule `unsafe-marker`
            // covers this case.
            let promised = |name: &str| {
                context
                    .index
                    .markers
                    .iter()
                    .any(|marker| marker.ty.local() == Some(name))
            };
            paths.retain(|path| {
                !promised(&item.name) && !path.through.iter().any(|name| promised(name))
            });
            let Some(first) = paths.first() else { continue };
            let through = match first.through.as_slice() {
                [] => String::new(),
                names => format!(
                    ", through {}",
                    names
                        .iter()
                        .map(|name| format!("`{name}`"))
                        .collect::<Vec<_>>()
                        .join(" and ")
                ),
            };
            let mut finding = Finding::new(
                Place {
                    file: item.place.file,
                    span: syn::spanned::Spanned::span(&field.syntax.ty),
                },
                format!(
                    "`{}.{}` holds a `{}`{through}, which threads must not share",
                    item.name, field.name, first.cell
                ),
            )
            .label("not synchronised")
            .note("PyO3 from 0.23 on does not compile a class that is not `Sync`")
            .help(
                "`pyo3_sync::PyMutex` or `PyProtected` in its place; an atomic for a `Cell` of a \
                 number; `Arc` for `Rc`",
            );
            for path in &paths {
                if let Some(place) = path.place {
                    finding = finding.related(place, format!("the `{}`", path.cell));
                }
            }
            found.push(finding);
        }
    }
}

/// An unsynchronized cell within a type, and the path to it.
pub(super) struct Unsynchronised {
    pub(super) cell: String,
    /// The crate's types on the path.
    pub(super) through: Vec<String>,
    /// The field that contains the cell, if it belongs to one of those types.
    pub(super) place: Option<Place>,
}

/// Collects the unsynchronized cells in a type.
///
/// Descends into the crate's types, but not into locks and Python objects.
pub(super) fn unsynchronised(
    context: &Context<'_>,
    ty: &Ty,
    file: usize,
    through: &mut Vec<(String, Place)>,
    seen: &mut HashSet<String>,
    found: &mut Vec<Unsynchronised>,
) {
    if is_lock(ty) {
        return;
    }
    let is_cell = matches!(
        ty.name.as_str(),
        "std::Cell"
            | "std::RefCell"
            | "std::Rc"
            | "std::UnsafeCell"
            | "std::OnceCell"
            | "once_cell_unsync::OnceCell"
    );
    if is_cell {
        found.push(Unsynchronised {
            cell: ty.last().to_owned(),
            through: through.iter().map(|(name, _)| name.clone()).collect(),
            place: through.last().map(|(_, place)| *place),
        });
        return;
    }
    let Some(name) = ty.local() else {
        for argument in &ty.arguments {
            unsynchronised(context, argument, file, through, seen, found);
        }
        return;
    };
    if !seen.insert(name.to_owned()) {
        return;
    }
    let Some(item) = context
        .index
        .type_named(name, file)
        .filter(|item| item.class.is_none())
    else {
        return;
    };
    for field in &item.fields {
        let place = Place {
            file: item.place.file,
            span: syn::spanned::Spanned::span(&field.syntax.ty),
        };
        through.push((name.to_owned(), place));
        unsynchronised(context, &field.ty, item.place.file, through, seen, found);
        through.pop();
    }
}

/// Returns `true` if the content of the type needs no synchronization of its own.
///
/// A lock synchronizes its content. A Python object is checked with its own class.
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
