//! `#[pyclass(unsendable)]`: panics in every thread but one.

use super::{Rule, guide};
use crate::{
    context::Context,
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "pyclass-unsendable",
    severity: Severity::RuntimeError,
    title: "an `unsendable` class",
    page: include_str!("../../rules/pyclass-unsendable.md"),
    guide: guide::STATICS,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for item in &context.index.types {
        let Some(class) = item.class.as_ref().filter(|class| class.unsendable) else {
            continue;
        };
        let place = class.place.unwrap_or(item.place);
        found.push(
            Finding::new(
                place,
                format!(
                    "`{}` panics in every thread but the one that made it",
                    item.name
                ),
            )
            .label("`unsendable`")
            .related(item.place, "this class")
            .note("and it cannot be dropped in another thread, where the collector may find it")
            .help(
                "if what it holds is `Send`, make the class `frozen` and put it in a \
                 `pyo3_sync::PyMutex`; if it is bound to its thread by nature, `unsendable` is \
                 right: say so with `// pyo3-sync: allow(pyclass-unsendable) ..`",
            ),
        );
    }
}
