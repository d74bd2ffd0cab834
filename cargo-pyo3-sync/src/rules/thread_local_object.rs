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

/// Returns `true` if a single function fills the variable, and all others only clear it.
///
/// Such a variable is a cache: no thread depends on a value that another thread has set.
fn is_cache_of_one_function(context: &Context<'_>, item: &StaticItem<'_>) -> bool {
    let uses = context.index.functions.iter().filter_map(|function| {
        let mut uses = Uses {
            name: &item.name,
            is_named: false,
            methods: Vec::new(),
        };
        uses.visit_block(function.body);
        uses.is_named.then_some(uses.methods)
    });
    uses.filter(|methods| !only_empties(methods)).count() == 1
}

/// `CACHE.with(|cache| cache.borrow_mut().clear())`.
fn only_empties(methods: &[String]) -> bool {
    methods.iter().any(|method| method == "clear")
        && methods.iter().all(|method| {
            matches!(
                method.as_str(),
                "with" | "try_with" | "with_borrow_mut" | "borrow_mut" | "try_borrow_mut" | "clear"
            )
        })
}

/// The methods that a function calls on the variable.
struct Uses<'n> {
    name: &'n str,
    is_named: bool,
    methods: Vec<String>,
}

impl Uses<'_> {
    fn is_it(&self, expression: &syn::Expr) -> bool {
        let syn::Expr::Path(path) = expression else {
            return false;
        };
        let last = path.path.segments.last();
        last.is_some_and(|last| last.ident == self.name)
    }
}

impl<'ast> Visit<'ast> for Uses<'_> {
    /// Skips nested functions, which are visited separately.
    fn visit_item(&mut self, _: &'ast syn::Item) {}

    fn visit_expr(&mut self, expression: &'ast syn::Expr) {
        self.is_named |= self.is_it(expression);
        visit::visit_expr(self, expression);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        struct Methods<'m>(&'m mut Vec<String>);
        impl<'ast> Visit<'ast> for Methods<'_> {
            fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
                self.0.push(call.method.to_string());
                visit::visit_expr_method_call(self, call);
            }
        }
        if self.is_it(&call.receiver) {
            Methods(&mut self.methods).visit_expr_method_call(call);
        }
        visit::visit_expr_method_call(self, call);
    }
}
