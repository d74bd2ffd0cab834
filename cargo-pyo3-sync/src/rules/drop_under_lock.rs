//! Dropping a Python object while a lock is held, which can run its `__del__`.
//!
//! Off by default: few objects have a `__del__`.

use super::{Rule, guide};
use crate::{
    context::{Context, Operation},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "drop-under-lock",
    severity: Severity::Deadlock,
    title: "a Python object that is dropped while a lock of `std` or `parking_lot` is held",
    page: include_str!("../../rules/drop-under-lock.md"),
    guide: guide::LOCKS,
    on_by_default: false,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, event) in context.events() {
        let Operation::DropsObject(what) = &event.operation else {
            continue;
        };
        if !context.is_attached(id, event) {
            continue;
        }
        let Some(guard) = event
            .held
            .first()
            .map(|&held| &context.bodies[id].guards[held])
        else {
            continue;
        };
        if guard.lock.never_waits_attached {
            continue;
        }
        found.push(
            Finding::new(
                event.place,
                "an object that is dropped here can run its `__del__`, under the lock",
            )
            .label(format!("`{what}` drops what was there"))
            .related(guard.place, "the lock is held from here on")
            .note(context.why_attached(id))
            .help(
                "keep what comes out, drop the guard, and then that: `let old = guard.insert(..); \
                 drop(guard); drop(old);`",
            ),
        );
    }
}
