//! The same lock of two objects, held at once: whoever comes from the other end waits for ever.

use super::{Rule, guide};
use crate::{
    context::{Context, Operation},
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
        // Somebody has thought of it.
        let text = context.index.functions[id].body;
        if compares_addresses(text) {
            continue;
        }
        found.push(
            Finding::new(
                event.place,
                format!("a thread that takes `{identity}` of the same two objects from the other end waits for this one, and this one for it"),
            )
            .label(format!("the lock of `{instance}`"))
            .related(other.place, format!("while that of `{}` is held", other.lock.instance.as_deref().unwrap_or("another"))),
        );
        if let Some(finding) = found.last_mut() {
            finding
                .notes
                .push("and an object with itself waits for its own lock".to_owned());
            finding.notes.push(context.why_attached(id));
            finding.help = "one order for all, the lower address first; or one lock at a time; `pyo3_sync::PyMutex::lock_checked` reports the \
                            deadlock, and `PyProtected::with2_mut` has no order to get wrong"
                .to_owned();
        }
    }
}

fn compares_addresses(block: &syn::Block) -> bool {
    use syn::visit::Visit;
    struct Finder(bool);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            self.0 |= path
                .segments
                .iter()
                .any(|segment| segment.ident == "ptr" || segment.ident == "ptr_eq");
        }
        fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
            self.0 |= matches!(call.method.to_string().as_str(), "as_ptr" | "is" | "cmp");
            syn::visit::visit_expr_method_call(self, call);
        }
    }
    let mut finder = Finder(false);
    finder.visit_block(block);
    finder.0
}
