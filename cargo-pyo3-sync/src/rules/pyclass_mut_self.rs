//! Classes that PyO3 borrows mutably: `&mut self`, `PyRefMut<Self>`, `#[pyo3(set)]`.
//!
//! PyO3 raises an exception if another thread uses the object meanwhile.

use super::{Rule, guide, static_mut::atomic_for};
use crate::{
    context::{
        Context, Function, FunctionKind, Ty,
        index::{TypeItem, has_attribute, has_flag},
        sharing::borrows_mutably,
    },
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "pyclass-mut-self",
    severity: Severity::RuntimeError,
    title: "a class whose methods take `&mut self`",
    page: include_str!("../../rules/pyclass-mut-self.md"),
    guide: guide::MUT_SELF,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for item in &context.index.types {
        let Some(class) = &item.class else { continue };
        if class.frozen || class.unsendable {
            continue;
        }
        let methods = mutable_methods(context, item);
        let fields: Vec<&str> = settable(item);
        if methods.is_empty() && fields.is_empty() {
            continue;
        }
        let mut finding = Finding::new(
            item.place,
            format!(
                "threads that share a `{}` get `RuntimeError: Already borrowed`",
                item.name
            ),
        )
        .label(summary(&methods, &fields));
        for method in methods.iter().take(4) {
            finding = finding.related(method.place, "borrows the object mutably");
        }
        found.push(
            finding
                .note(
                    "PyO3 lends the object to one caller at a time, and refuses the others, \
                     readers included",
                )
                .help(advice(item)),
        );
    }
}

/// Returns the methods that Python can call and that borrow the object mutably.
///
/// Excludes `__clear__`, `__init__` and `__setstate__`, which normally run while no other thread
/// can access the object.
pub(super) fn mutable_methods<'c, 'a>(
    context: &'c Context<'a>,
    item: &TypeItem<'_>,
) -> Vec<&'c Function<'a>> {
    context
        .index
        .methods_of(&item.name)
        .map(|id| &context.index.functions[id])
        .filter(|function| function.kind == FunctionKind::PyMethod && borrows_mutably(function))
        .filter(|function| {
            !matches!(
                function.name.as_str(),
                "__clear__" | "__init__" | "__setstate__"
            )
        })
        .collect()
}

pub(super) fn settable<'t>(item: &'t TypeItem<'_>) -> Vec<&'t str> {
    let all = item.class.as_ref().is_some_and(|class| class.set_all);
    item.fields
        .iter()
        .filter(|field| {
            all || (has_attribute(&field.syntax.attrs, "pyo3")
                && has_flag(&field.syntax.attrs, "pyo3", "set"))
        })
        .map(|field| field.name.as_str())
        .collect()
}

fn summary(methods: &[&Function<'_>], fields: &[&str]) -> String {
    let mut parts = Vec::new();
    if !methods.is_empty() {
        let names: Vec<String> = methods
            .iter()
            .map(|method| format!("`{}`", method.name))
            .collect();
        parts.push(format!(
            "{} want{} it mutably",
            list(&names),
            if methods.len() == 1 { "s" } else { "" }
        ));
    }
    if !fields.is_empty() {
        let names: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        parts.push(format!("{} can be set", list(&names)));
    }
    parts.join("; ")
}

fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] if names.len() <= 5 => format!("{} and {last}", first.join(", ")),
        _ => format!("{} and {} more", names[..4].join(", "), names.len() - 4),
    }
}

/// Suggests atomics or a lock, depending on the types of the fields.
fn advice(item: &TypeItem<'_>) -> String {
    let atomics: Vec<String> = item
        .fields
        .iter()
        .filter_map(|field| {
            atomic_for(&field.ty).map(|atomic| format!("`{}: {atomic}`", field.name))
        })
        .collect();
    if item.is_enum {
        return format!(
            "`#[pyclass(frozen)]`, and a `pyo3_sync::PyMutex` around the `{}`",
            item.name
        );
    }
    if item.fields.len() == 1 && atomics.len() == 1 {
        return format!(
            "`#[pyclass(frozen)]` and {}: one value that is changed in one step needs no lock",
            atomics[0]
        );
    }
    if item.fields.iter().any(|field| holds_objects(&field.ty)) {
        return "`#[pyclass(frozen)]`, and a `pyo3_sync::PyMutex` around the fields that change; it \
                has objects in it, so mind `__traverse__`, and do not hold the lock while Python \
                runs"
            .to_owned();
    }
    if !atomics.is_empty() && atomics.len() == item.fields.len() {
        return format!(
            "`#[pyclass(frozen)]`, and a `pyo3_sync::PyMutex` around the fields if they must agree \
             with each other; if not, atomics: {}",
            atomics.join(", ")
        );
    }
    "`#[pyclass(frozen)]`, `&self` in all methods, and one `pyo3_sync::PyMutex` around the fields \
     that change together"
        .to_owned()
}

fn holds_objects(ty: &Ty) -> bool {
    ty.mentions(&mut |ty| ty.is("pyo3::Py"))
}
