//! Lazies and once-cells of `std` and `once_cell` whose initializer touches Python.
//!
//! Such an initializer attaches, uses a token or runs Python code.

use std::collections::HashSet;

use super::{Rule, guide};
use crate::{
    context::{Body, Context, Operation},
    finding::{Finding, Place, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "lazy-touches-python",
    severity: Severity::Deadlock,
    title: "a lazy or once-cell of `std` or `once_cell` whose initialiser touches Python",
    page: include_str!("../../rules/lazy-touches-python.md"),
    guide: guide::LAZIES,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    let mut seen = HashSet::new();
    for body in context.bodies.iter().chain(&context.static_bodies) {
        for (id, initialiser) in body.initialisers.iter().enumerate() {
            let Some((place, how)) = touches(context, body, id) else {
                continue;
            };
            let line = (initialiser.place.file, context.line(initialiser.place));
            if !seen.insert(line) {
                continue;
            }
            found.push(
                Finding::new(
                    initialiser.place,
                    format!(
                        "the first threads that ask for this `{}` can wait for each other for ever",
                        initialiser.cell
                    ),
                )
                .label("others wait here, attached, while the initialiser runs")
                .related(place, how)
                .note(
                    "one thread runs the initialiser and lets go of the interpreter in it; another \
                     waits for the cell, and keeps the interpreter. Both builds stop for good, \
                     once in a while",
                )
                .help(
                    "`pyo3_sync::PyOnceLock` for `OnceLock` and `OnceCell`, `PyLazy` or \
                     `PyTryLazy` for `LazyLock`, `Lazy` and `lazy_static!`, `PyImport` if all it \
                     does is import",
                ),
            );
        }
    }
}

/// Returns a place in the initializer that touches Python, with a description.
fn touches(context: &Context<'_>, body: &Body, id: usize) -> Option<(Place, String)> {
    let events = || {
        body.events
            .iter()
            .filter(|event| event.initialiser == Some(id) && !event.elsewhere)
    };
    let strong = events().find_map(|event| match &event.operation {
        Operation::Attach => Some((event.place, "attaches".to_owned())),
        Operation::Python(what) => Some((event.place, format!("`{what}` runs Python code"))),
        Operation::Detach => Some((event.place, "lets go of the interpreter".to_owned())),
        Operation::Call(callee) => {
            let function = &context.index.functions[*callee];
            let witness = context
                .reach
                .python(*callee)
                .or_else(|| context.reach.attaches(*callee));
            match witness {
                Some(witness) => Some((
                    event.place,
                    format!("`{}`: {}", function.qualified(), witness.what),
                )),
                None if function.has_token => Some((
                    event.place,
                    format!("`{}` takes a token", function.qualified()),
                )),
                None => None,
            }
        }
        _ => None,
    });
    strong.or_else(|| {
        body.initialisers[id]
            .token
            .map(|place| (place, "uses a token".to_owned()))
    })
}
