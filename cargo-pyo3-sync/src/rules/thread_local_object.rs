//! `thread_local!` that holds Python objects.

use syn::visit::{self, Visit};

use super::{Rule, guide};
use crate::{
    context::{Context, index::StaticItem, python},
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
        if !(direct || through()) || is_cache_of_one_function(context, item) {
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

/// One function fills it where it is empty, and nothing else reads it: no thread misses what another has set.
fn is_cache_of_one_function(context: &Context<'_>, item: &StaticItem<'_>) -> bool {
    let users = context.index.functions.iter().filter(|function| {
        let mut mentions = Mentions {
            name: &item.name,
            found: false,
        };
        mentions.visit_block(function.body);
        mentions.found
    });
    users.count() == 1
}

struct Mentions<'n> {
    name: &'n str,
    found: bool,
}

impl<'ast> Visit<'ast> for Mentions<'_> {
    /// Functions within functions are looked at by themselves.
    fn visit_item(&mut self, _: &'ast syn::Item) {}

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let last = path.path.segments.last();
        self.found |= last.is_some_and(|last| last.ident == self.name);
        visit::visit_expr_path(self, path);
    }
}
