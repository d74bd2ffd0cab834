//! Python objects behind a lock, in a class without `__traverse__`.
//!
//! The collector never frees a cycle through such objects.

use super::{Rule, guide};
use crate::{
    context::{Context, Ty, index::Field, python},
    finding::{Finding, Place, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "untraversed-lock",
    severity: Severity::Slow,
    title: "Python objects behind a lock, in a class without `__traverse__`",
    page: include_str!("../../rules/untraversed-lock.md"),
    guide: guide::COLLECTOR,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for item in context
        .index
        .types
        .iter()
        .filter(|item| item.class.is_some())
    {
        let traverses = context
            .index
            .methods_of(&item.name)
            .any(|id| context.index.functions[id].name == "__traverse__");
        if traverses {
            continue;
        }
        let place = |field: &Field<'_>| Place {
            file: item.place.file,
            span: syn::spanned::Spanned::span(&field.syntax.ty),
        };
        let mut fields = item
            .fields
            .iter()
            .filter(|field| locked_objects(context, &field.ty, item.place.file));
        let Some(first) = fields.next() else { continue };
        let mut finding = Finding::new(
            place(first),
            format!(
                "a cycle through `{}.{}` is never freed: the collector cannot see into it",
                item.name, first.name
            ),
        )
        .label("objects behind a lock, and no `__traverse__`")
        .related(item.place, "this class")
        .help(
            "`pyo3_sync::PyMutex`, and `__traverse__` with its `traverse(&visit)`; what cannot be \
             in a cycle needs neither: allow this",
        );
        for field in fields {
            finding = finding.related(place(field), "and these");
        }
        found.push(finding);
    }
}

/// Returns `true` if the type contains a lock around objects such as `Py<PyAny>`.
///
/// The objects can be fields of another type of the crate.
fn locked_objects(context: &Context<'_>, ty: &Ty, file: usize) -> bool {
    let is_lock = matches!(
        ty.name.as_str(),
        "std::Mutex"
            | "std::RwLock"
            | "parking_lot::Mutex"
            | "parking_lot::RwLock"
            | "pyo3_sync::PyMutex"
            | "pyo3_sync::PyRwLock"
            | "pyo3_sync::PyProtected"
            | "pyo3::PyMutex"
    );
    if is_lock {
        return ty.mentions(&mut |part| {
            python::is_object(part)
                || part
                    .local()
                    .and_then(|name| context.index.type_named(name, file))
                    .is_some_and(|item| {
                        item.fields
                            .iter()
                            .any(|field| field.ty.mentions(&mut python::is_object))
                    })
        });
    }
    match ty.name.as_str() {
        "std::Arc" | "std::Box" | "std::Option" => ty
            .arguments
            .iter()
            .any(|argument| locked_objects(context, argument, file)),
        _ => false,
    }
}
