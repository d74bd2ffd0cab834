//! Operations that `__traverse__` must not perform.
//!
//! It must not block, attach, or try a lock whose state can change during a collection.

use std::collections::HashSet;

use super::{Rule, guide};
use crate::{
    context::{Context, Event, FunctionId, FunctionKind, Lock, Mode, Operation},
    finding::{Finding, Place, Severity},
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
    let mut traversal = Traversal {
        context,
        seen: HashSet::new(),
        found,
    };
    for (id, function) in context.index.functions.iter().enumerate() {
        if function.name == "__traverse__" && function.kind == FunctionKind::PyMethod {
            traversal.function(id, None);
        }
    }
}

/// Checks each `__traverse__`, and the functions of the crate that it calls.
struct Traversal<'c, 'a> {
    context: &'c Context<'a>,
    /// Functions that have been checked. Several classes may call the same one.
    seen: HashSet<FunctionId>,
    found: &'c mut Vec<Finding>,
}

impl Traversal<'_, '_> {
    /// Checks a function.
    ///
    /// `call` is the call in `__traverse__` that leads to it, or `None` for `__traverse__` itself.
    fn function(&mut self, id: FunctionId, call: Option<Place>) {
        if !self.seen.insert(id) {
            return;
        }
        let body = &self.context.bodies[id];
        for event in body.events.iter().filter(|event| !event.elsewhere) {
            let message = match &event.operation {
                Operation::Acquire(number) if !self.meets_owner(id, &body.guards[*number].lock) => {
                    continue;
                }
                Operation::Acquire(number) if !body.guards[*number].lock.never_waits_attached => {
                    "the collector waits for the lock, and its owner for the collector"
                }
                Operation::Acquire(_) => {
                    "what is visited in one pass and not in the next is freed while it is in use"
                }
                Operation::Attach => {
                    "`__traverse__` must not attach: the collector has stopped the interpreter"
                }
                Operation::Python(_) => "`__traverse__` must not run Python code",
                Operation::Call(callee) => {
                    self.function(*callee, call.or(Some(event.place)));
                    continue;
                }
                _ => continue,
            };
            let mut finding = Finding::new(event.place, message)
                .label("in `__traverse__`")
                .help(
                    "`pyo3_sync::PyMutex`, `PyRwLock`, `PyProtected` and `PyOnceLock` have \
                     `traverse(&visit)`, which waits for nobody and gives one answer for each \
                     collection",
                );
            if let Some(call) = call {
                finding = finding.related(call, "`__traverse__` calls it");
            }
            self.found.push(finding);
        }
    }

    /// Returns `true` if a collection can find the lock held by a thread that matters.
    ///
    /// A holder that borrows the object mutably does not matter, because PyO3 then skips
    /// `__traverse__`. The other holders depend on how `__traverse__` acquires the lock:
    ///
    /// - If it blocks, the holder matters if the collector can stop it while it holds the lock.
    /// - If it only tries, the holder matters if it is detached. The collector stops attached
    ///   threads, so every pass of the collection sees their locks in the same state.
    ///
    /// Returns `true` too if not all places that acquire the lock are known.
    fn meets_owner(&self, traversal: FunctionId, lock: &Lock) -> bool {
        let Some(identity) = &lock.identity else {
            return true;
        };
        // Behind an `Arc`, the lock can be acquired by code that does not show its identity.
        let file = self.context.index.functions[traversal].place.file;
        if !self.context.is_within_class(identity, file) {
            return true;
        }
        let mut others = self
            .context
            .acquisitions(identity)
            .filter(|other| other.function != traversal)
            .peekable();
        others.peek().is_none()
            || others.any(|other| {
                let conflicts = lock.mode != Mode::Read || other.lock.mode != Mode::Read;
                conflicts
                    && !self.context.has_exclusively(other.function, other.lock)
                    && if lock.never_waits_attached {
                        !other.is_attached
                    } else {
                        self.context.index.functions[other.function].has_token
                            || self.does_something_under(other.function, other.guard)
                    }
            })
    }

    fn does_something_under(&self, id: FunctionId, guard: usize) -> bool {
        let reach = &self.context.reach;
        let under = |event: &&Event| event.held.contains(&guard);
        let mut events = self.context.bodies[id].events.iter().filter(under);
        events.any(|event| match event.operation {
            Operation::Acquire(_) => false,
            Operation::Call(callee) => {
                reach.python(callee).is_some() || reach.attaches(callee).is_some()
            }
            _ => true,
        })
    }
}
