//! A lock guard that is held while Python code runs, or while the thread attaches.
//!
//! The owner of the lock detaches within the Python code. A waiter for the lock stays attached.
//! With a GIL, the waiter keeps the GIL, and the owner can never attach again. Without one, the
//! next stop-the-world pause deadlocks: it stops the owner and waits for the waiter.

use std::collections::HashSet;

use super::{Rule, guide};
use crate::{
    context::{
        Body, Context, Event, FunctionId, Operation,
        behaviour::{Guard, Mode},
    },
    finding::{Finding, Place, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "guard-across-python",
    severity: Severity::Deadlock,
    title: "a lock of `std` or `parking_lot` that is held while Python code runs",
    page: include_str!("../../rules/guard-across-python.md"),
    guide: guide::LOCKS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, body) in context.bodies.iter().enumerate() {
        let mut reported = HashSet::new();
        for event in body.events.iter().filter(|event| !event.elsewhere) {
            let Some((how, steps)) = lets_others_run(context, id, event) else {
                continue;
            };
            for &number in &event.held {
                let guard = &body.guards[number];
                if !reported.contains(&number) && somebody_waits_attached(context, id, body, number)
                {
                    reported.insert(number);
                    found.push(finding(context, id, guard, event, &how, steps.clone()));
                }
            }
        }
    }
}

fn finding(
    context: &Context<'_>,
    id: FunctionId,
    guard: &Guard,
    event: &Event,
    how: &str,
    steps: Vec<(Place, String)>,
) -> Finding {
    let lock = match &guard.lock.identity {
        Some(identity) => format!("`{identity}`"),
        None => "this lock".to_owned(),
    };
    let verb = if guard.lock.mode == Mode::Read {
        "read"
    } else {
        "held"
    };
    let kind = if guard.lock.mode == Mode::Lock {
        "PyMutex"
    } else {
        "PyRwLock"
    };
    let name = match &guard.name {
        Some(name) => format!("`{name}` holds it from here on"),
        None => "held to the end of the statement".to_owned(),
    };
    let mut finding = Finding::new(
        event.place,
        format!(
            "{lock} is {verb} while Python code may run, and threads that wait for it stay attached"
        ),
    )
    .label(how.to_owned())
    .related(guard.place, name);
    for (place, label) in steps {
        finding = finding.related(place, label);
    }
    if context.reach.attached(id) {
        finding = finding.note(context.why_attached(id));
    }
    finding.help(format!(
        "take what the call needs out of the data, drop the guard, and call; or use \
         `pyo3_sync::{kind}`, whose waiters detach"
    ))
}

/// Returns how the event lets other threads attach, if it does.
///
/// The places are in called functions. There are none if the event itself has that effect.
fn lets_others_run(
    context: &Context<'_>,
    id: FunctionId,
    event: &Event,
) -> Option<(String, Vec<(Place, String)>)> {
    let attached = context.is_attached(id, event);
    match &event.operation {
        Operation::Python(what) => Some((format!("`{what}` runs Python code"), Vec::new())),
        Operation::Detach => Some((
            "detaches, and has to attach again while it holds the lock".to_owned(),
            Vec::new(),
        )),
        Operation::Attach if !attached => Some((
            "waits to attach while it holds the lock".to_owned(),
            Vec::new(),
        )),
        Operation::Call(callee) => {
            let which = if context.reach.python(*callee).is_some() {
                crate::context::reach::Reach::python
            } else if !attached && context.reach.attaches(*callee).is_some() {
                crate::context::reach::Reach::attaches
            } else {
                return None;
            };
            let chain = context.reach.chain(*callee, which);
            let (_, last) = chain.last()?;
            let name = context.index.functions[*callee].qualified();
            let path: Vec<String> = chain
                .iter()
                .skip(1)
                .map(|(id, _)| format!("`{}`", context.index.functions[*id].qualified()))
                .collect();
            let through = if path.is_empty() {
                String::new()
            } else {
                format!(" through {}", path.join(", "))
            };
            Some((
                format!("`{name}` comes to run Python code{through}"),
                vec![(last.place, last.what.clone())],
            ))
        }
        _ => None,
    }
}

/// Returns `true` if some thread can block on this lock while attached.
///
/// Considers the function that acquires `number`, and all functions that acquire the same lock.
fn somebody_waits_attached(
    context: &Context<'_>,
    id: FunctionId,
    body: &Body,
    number: usize,
) -> bool {
    let guard = &body.guards[number];
    // Locks of an object that threads do not share are uncontended.
    let owner = guard
        .lock
        .identity
        .as_deref()
        .and_then(|identity| identity.split_once('.'));
    if owner.is_some_and(|(owner, _)| !context.shared.contains(owner)) {
        return false;
    }
    if context.has_exclusively(id, &guard.lock) {
        return false;
    }
    // Readers block only on writers.
    if let Some(identity) = &guard.lock.identity
        && guard.lock.mode == Mode::Read
        && context.is_within_class(identity, guard.place.file)
        && !context.has_shared_writer(identity)
    {
        return false;
    }
    let waits_here = body.events.iter().any(|event| {
        matches!(event.operation, Operation::Acquire(taken) if taken == number)
            && !guard.lock.never_waits_attached
            && context.is_attached(id, event)
    });
    if waits_here {
        return true;
    }
    let Some(identity) = &guard.lock.identity else {
        return false;
    };
    context
        .events()
        .any(|(other, event)| match event.operation {
            Operation::Acquire(taken) => {
                let lock = &context.bodies[other].guards[taken].lock;
                lock.identity.as_ref() == Some(identity)
                    && !lock.never_waits_attached
                    && context.is_attached(other, event)
            }
            _ => false,
        })
}
