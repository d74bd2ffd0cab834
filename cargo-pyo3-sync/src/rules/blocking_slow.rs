//! Sleeping, or waiting for a process or the network, while attached.
//!
//! With a GIL, no other thread runs Python code in the meantime. Without one, no thread can collect
//! garbage.

use syn::visit::{self, Visit};

use super::{Rule, guide};
use crate::{
    context::{
        Context, FunctionId, Operation,
        behaviour::{WaitKind, text},
    },
    finding::{Finding, Place, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "blocking-slow",
    severity: Severity::Slow,
    title: "sleeping, or waiting for a process or the network, while attached",
    page: include_str!("../../rules/blocking-slow.md"),
    guide: guide::LOCKS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, event) in context.events() {
        let Operation::Wait(kind, what) = &event.operation else {
            continue;
        };
        let what_for = match kind {
            WaitKind::Sleep => "sleeps",
            WaitKind::Process => "waits for a process",
            WaitKind::Network => "waits for the network",
            _ => continue,
        };
        if !context.is_attached(id, event) {
            continue;
        }
        if *kind == WaitKind::Process && is_killed_before(context, id, event.place) {
            continue;
        }
        found.push(
            Finding::new(
                event.place,
                format!(
                    "{what_for} and stays attached: no other thread runs Python meanwhile, or none \
                     can collect garbage"
                ),
            )
            .label(format!("`{what}` while attached"))
            .note(context.why_attached(id))
            .help("`py.detach(|| ..)` around it"),
        );
    }
}

/// Returns `true` if the process is killed before the wait: `child.kill(); child.wait()`.
///
/// A killed process ends soon.
fn is_killed_before(context: &Context<'_>, function: FunctionId, wait: Place) -> bool {
    struct Finder {
        wait: proc_macro2::LineColumn,
        killed: Vec<String>,
        found: bool,
    }
    impl<'ast> Visit<'ast> for Finder {
        fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
            visit::visit_expr_method_call(self, call);
            let receiver = text(&call.receiver);
            if call.method.span().start() == self.wait {
                self.found = self.killed.contains(&receiver);
            } else if call.method == "kill" {
                self.killed.push(receiver);
            }
        }
    }
    let mut finder = Finder {
        wait: wait.span.start(),
        killed: Vec::new(),
        found: false,
    };
    finder.visit_block(context.index.functions[function].body);
    finder.found
}
