//! Waiting for another thread while attached.
//!
//! Covers channels, joins, barriers, condition variables, `block_on` and Rayon.

use super::{Rule, guide};
use crate::{
    context::{Context, Operation, behaviour::WaitKind},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "blocking-wait",
    severity: Severity::Deadlock,
    title: "waiting for another thread while attached: channel, join, barrier, condition variable, \
            `block_on`",
    page: include_str!("../../rules/blocking-wait.md"),
    guide: guide::LOCKS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (id, event) in context.events() {
        let Operation::Wait(kind, what) = &event.operation else {
            continue;
        };
        let (for_what, instead) = match kind {
            WaitKind::Receive => ("a message", "`py.detach(|| receiver.recv())`"),
            WaitKind::Join => ("a thread to end", "`py.detach(|| thread.join())`"),
            WaitKind::Barrier => (
                "other threads",
                "`pyo3_sync::PyBarrier`, or `py.detach(|| barrier.wait())`",
            ),
            WaitKind::Condvar => (
                "a notification",
                "`pyo3_sync::PyCondvar` and `PyMutex`, or `py.detach(..)` around the wait",
            ),
            WaitKind::BlockOn => ("a future", "`py.detach(|| runtime.block_on(future))`"),
            WaitKind::Sleep | WaitKind::Process | WaitKind::Network => continue,
        };
        if !context.is_attached(id, event) {
            continue;
        }
        found.push(
            Finding::new(
                event.place,
                format!(
                    "waits for {for_what} and stays attached: if that needs the interpreter, it \
                     never comes"
                ),
            )
            .label(format!("`{what}` while attached"))
            .note(context.why_attached(id))
            .note(
                "and even if it comes, no other thread runs Python meanwhile, or none can collect \
                 garbage on free-threaded Python",
            )
            .help(instead),
        );
    }
    // With Rayon, this thread waits for threads of the pool, whose closures may attach.
    for (id, body) in context.bodies.iter().enumerate() {
        for (number, parallel) in body.parallels.iter().enumerate() {
            let attached = match parallel.state {
                crate::context::State::Attached => true,
                crate::context::State::Detached => false,
                crate::context::State::Caller => context.reach.attached(id),
            };
            if !attached {
                continue;
            }
            let attaches = body
                .events
                .iter()
                .filter(|event| event.parallel == Some(number))
                .find(|event| match &event.operation {
                    Operation::Attach => true,
                    Operation::Call(callee) => context.reach.attaches(*callee).is_some(),
                    _ => false,
                });
            let Some(attaches) = attaches else { continue };
            found.push(
                Finding::new(
                    parallel.place,
                    "waits attached for threads that wait to attach",
                )
                .label(format!("{} while attached", parallel.what))
                .related(attaches.place, "attaches, in a thread of the pool")
                .note(context.why_attached(id))
                .help("`py.detach(|| ..)` around the parallel part"),
            );
        }
    }
}
