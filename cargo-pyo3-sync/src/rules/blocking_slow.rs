//! Sleeping, waiting for a process or for the network while attached: everybody else waits too.

use super::{Rule, guide};
use crate::{
    context::{Context, Operation, behaviour::WaitKind},
    finding::{Finding, Severity},
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
        found.push(
            Finding::new(event.place, format!("{what_for} and stays attached: no other thread runs Python meanwhile, or none can collect garbage"))
                .label(format!("`{what}` while attached"))
                .note(context.why_attached(id))
                .help("`py.detach(|| ..)` around it"),
        );
    }
}
