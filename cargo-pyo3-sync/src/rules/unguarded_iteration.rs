//! Iterating over a dictionary or set that other code can change meanwhile.

use super::{Rule, guide};
use crate::{
    context::{
        Context, FunctionId, Operation,
        behaviour::{Iteration, Origin},
    },
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "unguarded-iteration",
    severity: Severity::RuntimeError,
    title: "iteration over a `PyDict` or `PySet` that others can change, which panics if they do",
    page: include_str!("../../rules/unguarded-iteration.md"),
    guide: guide::FFI,
    on_by_default: true,
    check,
};

const HELP_FOR_DICT: &str =
    "iterate over `.copy()?`, or use `locked_for_each` with a closure that runs no Python code";
const HELP_FOR_SET: &str =
    "iterate over a copy, or in a critical section whose body runs no Python code";

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, body) in context.bodies.iter().enumerate() {
        for iteration in &body.iterations {
            if iteration.class == "PyList" {
                continue;
            }
            // A collection from the caller is seldom changed meanwhile. Python code in the loop can
            // change it without a second thread, and suspends a critical section around the loop.
            let python = python_within(context, id, iteration);
            let why = match (iteration.origin, python) {
                (Origin::Shared, None) if !iteration.in_critical_section => {
                    "other threads can change it".to_owned()
                }
                (Origin::Shared | Origin::Parameter, Some(what)) => {
                    format!("and {what} while it is iterated over")
                }
                _ => continue,
            };
            let what = if iteration.class == "PyDict" {
                "dictionary"
            } else {
                "set"
            };
            found.push(
                Finding::new(
                    iteration.place,
                    format!("panics if the {what} grows or shrinks meanwhile"),
                )
                .label(format!("a `{}`, {why}", iteration.class))
                .note(format!(
                    "`PanicException: {what} changed size during iteration`, which `except \
                     Exception` does not catch"
                ))
                .help(if iteration.class == "PyDict" {
                    HELP_FOR_DICT
                } else {
                    HELP_FOR_SET
                }),
            );
        }
    }
}

/// Returns what runs Python code during the iteration.
fn python_within(context: &Context<'_>, id: FunctionId, iteration: &Iteration) -> Option<String> {
    let events = &context.bodies[id].events;
    let range = iteration.events.start..iteration.events.end.min(events.len());
    events[range]
        .iter()
        .filter(|event| !event.elsewhere)
        .find_map(|event| match &event.operation {
            Operation::Python(what) => Some(format!("`{what}` runs Python code")),
            Operation::Call(callee) => {
                let function = &context.index.functions[*callee];
                context
                    .reach
                    .python(*callee)
                    .map(|_| format!("`{}` runs Python code", function.qualified()))
            }
            _ => None,
        })
}
