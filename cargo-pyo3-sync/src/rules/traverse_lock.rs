//! What `__traverse__` must not do: wait, attach, try a lock whose answer may change.

use super::{Rule, guide};
use crate::{
    context::{Context, FunctionKind, Operation},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "traverse-lock",
    severity: Severity::Deadlock,
    title: "a lock that is taken, or a thread that attaches, in `__traverse__`",
    page: include_str!("../../rules/traverse-lock.md"),
    guide: guide::COLLECTOR,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, function) in context.index.functions.iter().enumerate() {
        if function.name != "__traverse__" || function.kind != FunctionKind::PyMethod {
            continue;
        }
        for event in context.bodies[id]
            .events
            .iter()
            .filter(|event| !event.elsewhere)
        {
            let message = match &event.operation {
                Operation::Acquire(number)
                    if !context.bodies[id].guards[*number].lock.never_waits_attached =>
                {
                    "the collector waits for the lock, and its owner for the collector"
                }
                Operation::Acquire(_) => {
                    "what is visited in one pass and not in the next is freed while it is in use"
                }
                Operation::Attach => {
                    "`__traverse__` must not attach: the collector has stopped the interpreter"
                }
                Operation::Python(_) => "`__traverse__` must not run Python code",
                _ => continue,
            };
            found.push(
                Finding::new(event.place, message)
                    .label("in `__traverse__`")
                    .help("`pyo3_sync::PyMutex`, `PyRwLock`, `PyProtected` and `PyOnceLock` have `traverse(&visit)`, which waits for nobody and gives one answer for each collection"),
            );
        }
    }
}
