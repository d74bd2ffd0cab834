//! A lock of `std` or `parking_lot` that is acquired while attached.
//!
//! Off by default: blocking while attached is correct if every holder releases the lock soon and
//! runs no Python code while it holds the lock.

use super::{Rule, guide};
use crate::{
    context::{Context, Operation},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "attached-lock",
    severity: Severity::Slow,
    title: "any lock of `std` or `parking_lot` that is waited for attached",
    page: include_str!("../../rules/attached-lock.md"),
    guide: guide::LOCKS,
    on_by_default: false,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, event) in context.events() {
        let Operation::Acquire(number) = event.operation else {
            continue;
        };
        let lock = &context.bodies[id].guards[number].lock;
        if lock.never_waits_attached || !context.is_attached(id, event) {
            continue;
        }
        let name = lock
            .identity
            .as_ref()
            .map_or("the lock".to_owned(), |identity| format!("`{identity}`"));
        found.push(
            Finding::new(event.place, format!("waits for {name} and stays attached"))
                .label("taken while attached")
                .note(context.why_attached(id))
                .help(
                    "`pyo3_sync::PyMutex` or `PyRwLock`; if detached threads share it, \
                     `lock_attached(py)` of `pyo3_sync::ext`",
                ),
        );
    }
}
