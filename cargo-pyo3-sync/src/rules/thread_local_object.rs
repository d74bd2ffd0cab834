//! `thread_local!` that holds Python objects.

use super::{Rule, guide};
use crate::{
    context::{Context, python},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "thread-local-object",
    severity: Severity::RuntimeError,
    title: "a `thread_local!` that holds Python objects",
    page: include_str!("../../rules/thread-local-object.md"),
    guide: guide::STATICS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for item in context
        .index
        .statics
        .iter()
        .filter(|item| item.thread_local)
    {
        let direct = item.ty.mentions(&mut python::is_reference);
        let through = || {
            item.ty.mentions(&mut |ty| {
                let Some(local) = ty
                    .local()
                    .and_then(|name| context.index.type_named(name, item.place.file))
                else {
                    return false;
                };
                local
                    .fields
                    .iter()
                    .any(|field| field.ty.mentions(&mut python::is_reference))
            })
        };
        if !direct && !through() {
            continue;
        }
        found.push(
            Finding::new(
                item.place,
                format!(
                    "each thread has a `{}` of its own, and what one sets the others do not see",
                    item.name
                ),
            )
            .label("holds Python objects")
            .note("they are dropped when the thread ends, when it is no longer attached")
            .help("a `static` with a `pyo3_sync::PyOnceLock`, `PyMutex` or `PyProtected`"),
        );
    }
}
