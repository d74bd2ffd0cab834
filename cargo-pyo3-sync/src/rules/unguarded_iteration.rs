//! Iterating over a dictionary or set that another thread can get at.

use super::{Rule, guide};
use crate::{
    context::{Context, Operation, behaviour::Origin},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "unguarded-iteration",
    severity: Severity::RuntimeError,
    title: "iteration over a shared `PyDict` or `PySet`, which panics if another thread changes it",
    page: include_str!("../../rules/unguarded-iteration.md"),
    guide: guide::FFI,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (_, event) in context.events() {
        let Operation::Iterate { ty, origin } = &event.operation else {
            continue;
        };
        if event.in_critical_section || *origin != Origin::Shared || ty == "PyList" {
            continue;
        }
        let what = if ty == "PyDict" { "dictionary" } else { "set" };
        found.push(
            Finding::new(event.place, format!("panics if another thread adds to the {what} or removes from it meanwhile"))
                .label(format!("a `{ty}` that others can get at"))
                .note("`PanicException: dictionary changed size during iteration`, which `except Exception` does not catch")
                .help(if ty == "PyDict" { "`.copy()?` first, or `locked_for_each`" } else { "iterate over a copy, or within a critical section on it" }),
        );
    }
}
