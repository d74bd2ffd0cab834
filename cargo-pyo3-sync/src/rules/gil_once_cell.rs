//! `GILOnceCell`: deprecated by PyO3 0.26, removed by 0.28.

use semver::Version;

use super::{Rule, guide};
use crate::{
    context::Context,
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "gil-once-cell",
    severity: Severity::RuntimeError,
    title: "PyO3's `GILOnceCell`, which is gone from PyO3 0.28",
    page: include_str!("../../rules/gil-once-cell.md"),
    guide: guide::GIL_ONCE_CELL,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    declared_with(context, "pyo3::GILOnceCell", |place, name| {
        found.push(
            Finding::new(
                place,
                format!("the initialiser of `{name}` can run in several threads at once"),
            )
            .label("a `GILOnceCell`")
            .note(since(context))
            .help(
                "`use pyo3_sync::PyOnceLock`: the methods have the same names. If the initialiser \
                 asks for its own cell, `pyo3_sync::compat::GILOnceCell` keeps the old behaviour; \
                 `cargo pyo3-sync fix` changes the names",
            ),
        );
    });
}

/// Calls `found` with the place and name of each static and field whose type mentions `ty`.
pub(super) fn declared_with(
    context: &Context<'_>,
    ty: &str,
    mut found: impl FnMut(crate::finding::Place, String),
) {
    for item in &context.index.statics {
        if item.ty.mentions(&mut |part| part.is(ty)) {
            found(item.place, item.name.clone());
        }
    }
    for item in &context.index.types {
        for field in &item.fields {
            if field.ty.mentions(&mut |part| part.is(ty)) {
                let span = syn::spanned::Spanned::span(&field.syntax.ty);
                found(
                    crate::finding::Place {
                        file: item.place.file,
                        span,
                    },
                    format!("{}.{}", item.name, field.name),
                );
            }
        }
    }
}

pub(super) fn since(context: &Context<'_>) -> String {
    match &context.source.pyo3 {
        Some(version) if *version >= Version::new(0, 28, 0) => {
            format!("PyO3 {version} does not have it any more")
        }
        Some(version) if *version >= Version::new(0, 26, 0) => {
            format!("PyO3 {version} has deprecated it, and 0.28 does not have it any more")
        }
        _ => "PyO3 0.26 has deprecated it, and 0.28 does not have it any more".to_owned(),
    }
}
