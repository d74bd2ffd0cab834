//! The same lock of two objects, held at once. A thread that locks them in reverse can deadlock.

use syn::{
    Expr,
    visit::{self, Visit},
};

use super::{Rule, guide};
use crate::{
    context::{Context, Function, Mode, Operation},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "lock-order",
    severity: Severity::Deadlock,
    title: "the locks of two objects of one class, held at once in no fixed order",
    page: include_str!("../../rules/lock-order.md"),
    guide: guide::MUT_SELF,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, event) in context.events() {
        let Operation::Acquire(number) = event.operation else {
            continue;
        };
        if !context.is_attached(id, event) {
            continue;
        }
        let body = &context.bodies[id];
        let lock = &body.guards[number].lock;
        let (Some(identity), Some(instance)) = (&lock.identity, &lock.instance) else {
            continue;
        };
        if lock.never_waits_attached {
            continue;
        }
        let other = event
            .held
            .iter()
            .map(|&held| &body.guards[held])
            .find(|held| {
                held.lock.identity.as_ref() == Some(identity)
                    && held
                        .lock
                        .instance
                        .as_ref()
                        .is_some_and(|other| other != instance)
                    && !held.lock.never_waits_attached
            });
        let Some(other) = other else { continue };
        // There is no deadlock if one of the objects is borrowed mutably, because PyO3 then refuses
        // it to the other thread. There is none either if all threads only read.
        let (one, another) = (lock, &other.lock);
        let both_read = one.mode == Mode::Read && another.mode == Mode::Read;
        if context.has_exclusively(id, one)
            || context.has_exclusively(id, another)
            || both_read
                && context.is_within_class(identity, event.place.file)
                && !context.has_shared_writer(identity)
        {
            continue;
        }
        // A function that compares its parameters is assumed to choose the order by it.
        if compares_parameters(&context.index.functions[id]) {
            continue;
        }
        found.push(
            Finding::new(
                event.place,
                format!(
                    "a thread that takes `{identity}` of the same two objects from the other end \
                     waits for this one, and this one for it"
                ),
            )
            .label(format!("the lock of `{instance}`"))
            .related(
                other.place,
                format!(
                    "while that of `{}` is held",
                    other.lock.instance.as_deref().unwrap_or("another")
                ),
            ),
        );
        if let Some(finding) = found.last_mut() {
            finding
                .notes
                .push("and an object with itself waits for its own lock".to_owned());
            finding.notes.push(context.why_attached(id));
            finding.help = "one order for all, the lower address first; or one lock at a time; \
                            `pyo3_sync::PyMutex::lock_checked` reports the deadlock, and \
                            `PyProtected::with2_mut` has no order to get wrong"
                .to_owned();
        }
    }
}

/// Returns `true` if the function compares two of its parameters, by address or by a key.
///
/// Examples: `ptr::eq(self, other)`, `Arc::ptr_eq(&self.lock, &other.lock)`,
/// `self.id.cmp(&other.id)`. Comparing addresses within the locked data does not count, because it
/// does not order the locks.
fn compares_parameters(function: &Function<'_>) -> bool {
    struct Finder<'f> {
        parameters: Vec<&'f str>,
        found: bool,
    }
    impl Finder<'_> {
        fn is_parameter(&self, expression: &Expr) -> bool {
            match expression {
                Expr::Path(path) => path
                    .path
                    .get_ident()
                    .is_some_and(|name| self.parameters.iter().any(|known| name == known)),
                Expr::Field(field) => self.is_parameter(&field.base),
                Expr::Reference(inner) => self.is_parameter(&inner.expr),
                Expr::Paren(inner) => self.is_parameter(&inner.expr),
                Expr::Unary(inner) => self.is_parameter(&inner.expr),
                Expr::Cast(inner) => self.is_parameter(&inner.expr),
                _ => false,
            }
        }
    }
    impl<'ast> Visit<'ast> for Finder<'_> {
        fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
            if let Expr::Path(path) = &*call.func {
                let of_pointers = path
                    .path
                    .segments
                    .iter()
                    .any(|segment| segment.ident == "ptr" || segment.ident == "ptr_eq");
                self.found |=
                    of_pointers && call.args.iter().any(|argument| self.is_parameter(argument));
            }
            visit::visit_expr_call(self, call);
        }
        fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
            let compares = matches!(
                call.method.to_string().as_str(),
                "as_ptr" | "is" | "cmp" | "ptr_eq"
            );
            self.found |= compares && self.is_parameter(&call.receiver);
            visit::visit_expr_method_call(self, call);
        }
        /// `self as *const _`.
        fn visit_expr_cast(&mut self, cast: &'ast syn::ExprCast) {
            self.found |= matches!(*cast.ty, syn::Type::Ptr(_)) && self.is_parameter(&cast.expr);
            visit::visit_expr_cast(self, cast);
        }
    }
    let mut finder = Finder {
        parameters: function
            .parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .collect(),
        found: false,
    };
    finder.visit_block(function.body);
    finder.found
}
