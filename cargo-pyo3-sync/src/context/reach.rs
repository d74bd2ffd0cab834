//! Functions that run attached, and functions that run Python code, through calls within the crate.

use std::collections::VecDeque;

use super::{
    behaviour::{Body, Operation, State},
    index::{Function, FunctionId, FunctionKind, Index},
};
use crate::finding::Place;

/// An operation of a function, direct or through a call.
#[derive(Debug, Clone)]
pub struct Witness {
    pub what: String,
    /// The place of the operation, or of the call that leads to it.
    pub place: Place,
    pub through: Option<FunctionId>,
}

pub struct Reach {
    /// For each function that runs attached, an attached caller.
    ///
    /// The caller is the function itself if it has a token, or if Python calls it.
    attached: Vec<Option<FunctionId>>,
    /// The functions that run Python code or detach.
    python: Vec<Option<Witness>>,
    /// The functions that attach.
    attaches: Vec<Option<Witness>>,
}

impl Reach {
    pub fn new(index: &Index<'_>, bodies: &[Body]) -> Self {
        let count = index.functions.len();
        let mut attached: Vec<Option<FunctionId>> = vec![None; count];
        let mut queue = VecDeque::new();
        for (id, function) in index.functions.iter().enumerate() {
            if starts_attached(index, function) {
                attached[id] = Some(id);
                queue.push_back(id);
            }
        }
        // Calls from attached closures in functions that are not attached.
        for (id, body) in bodies.iter().enumerate() {
            for callee in calls(body, State::Attached) {
                if attached[callee].is_none() {
                    attached[callee] = Some(id);
                    queue.push_back(callee);
                }
            }
        }
        while let Some(id) = queue.pop_front() {
            for callee in calls(&bodies[id], State::Caller) {
                if attached[callee].is_none() {
                    attached[callee] = Some(id);
                    queue.push_back(callee);
                }
            }
        }
        let python = summarise(bodies, |operation, _| match operation {
            Operation::Python(what) => Some(format!("`{what}` runs Python code")),
            Operation::Detach => Some("it detaches, and attaches again".to_owned()),
            _ => None,
        });
        let attaches = summarise(bodies, |operation, _| match operation {
            Operation::Attach => Some("it attaches".to_owned()),
            _ => None,
        });
        Reach {
            attached,
            python,
            attaches,
        }
    }

    pub fn attached(&self, id: FunctionId) -> bool {
        self.attached[id].is_some()
    }

    pub fn python(&self, id: FunctionId) -> Option<&Witness> {
        self.python[id].as_ref()
    }

    pub fn attaches(&self, id: FunctionId) -> Option<&Witness> {
        self.attaches[id].as_ref()
    }

    /// Returns the chain of calls that leads to the operation: `a` calls `b` calls `c`.
    pub fn chain<'r>(
        &'r self,
        id: FunctionId,
        which: impl Fn(&'r Self, FunctionId) -> Option<&'r Witness>,
    ) -> Vec<(FunctionId, &'r Witness)> {
        let mut chain: Vec<(FunctionId, &Witness)> = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            if chain.len() > 8 || chain.iter().any(|(seen, _)| *seen == id) {
                break;
            }
            let Some(witness) = which(self, id) else {
                break;
            };
            chain.push((id, witness));
            next = witness.through;
        }
        chain
    }

    pub fn why(&self, index: &Index<'_>, id: FunctionId) -> String {
        let mut path = vec![id];
        let mut current = id;
        while let Some(from) = self.attached[current] {
            if from == current || path.len() > 8 {
                break;
            }
            path.push(from);
            current = from;
        }
        let first = &index.functions[current];
        let reason = match first.kind {
            FunctionKind::PyFunction => "is a `#[pyfunction]`",
            FunctionKind::PyMethod => "is in `#[pymethods]`",
            FunctionKind::PyModule => "initialises the module",
            FunctionKind::Plain if first.name == "drop" => "runs when Python drops the object",
            FunctionKind::Plain if first.has_token => "has a token among its parameters",
            FunctionKind::Plain => "attaches",
        };
        let mut text = format!("`{}` {reason}", first.qualified());
        for id in path.iter().rev().skip(1) {
            text.push_str(&format!(
                ", and calls `{}`",
                index.functions[*id].qualified()
            ));
        }
        text
    }
}

/// Returns `true` if the function is attached when it is called.
fn starts_attached(index: &Index<'_>, function: &Function<'_>) -> bool {
    if function.signature.asyncness.is_some() && !function.is_entry() {
        return false;
    }
    let dropped_by_python = function.of_trait.as_deref() == Some("Drop")
        && function.self_type.as_deref().is_some_and(|name| {
            index
                .type_named(name, function.place.file)
                .is_some_and(|item| item.class.is_some())
        });
    function.is_entry() || function.has_token || dropped_by_python
}

fn summarise(
    bodies: &[Body],
    direct: impl Fn(&Operation, State) -> Option<String>,
) -> Vec<Option<Witness>> {
    let mut summary: Vec<Option<Witness>> = bodies
        .iter()
        .map(|body| {
            body.events
                .iter()
                .filter(|event| !event.elsewhere)
                .find_map(|event| {
                    direct(&event.operation, event.state).map(|what| Witness {
                        what,
                        place: event.place,
                        through: None,
                    })
                })
        })
        .collect();
    loop {
        let mut changed = false;
        for (id, body) in bodies.iter().enumerate() {
            if summary[id].is_some() {
                continue;
            }
            let found = body
                .events
                .iter()
                .filter(|event| !event.elsewhere)
                .find_map(|event| match event.operation {
                    Operation::Call(callee) => summary[callee].as_ref().map(|witness| Witness {
                        what: witness.what.clone(),
                        place: event.place,
                        through: Some(callee),
                    }),
                    _ => None,
                });
            if found.is_some() {
                summary[id] = found;
                changed = true;
            }
        }
        if !changed {
            return summary;
        }
    }
}

/// Returns the functions that a body calls in this state, on its own thread.
fn calls(body: &Body, state: State) -> impl Iterator<Item = FunctionId> {
    body.events
        .iter()
        .filter_map(move |event| match event.operation {
            Operation::Call(callee) if event.state == state && !event.elsewhere => Some(callee),
            _ => None,
        })
}
