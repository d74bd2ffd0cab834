//! `GILProtected`, which does not compile for free-threaded Python.

use super::{
    Rule,
    gil_once_cell::{declared_with, since},
    guide,
};
use crate::{
    context::Context,
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "gil-protected",
    severity: Severity::RuntimeError,
    title: "PyO3's `GILProtected`, which free-threaded Python never had",
    page: include_str!("../../rules/gil-protected.md"),
    guide: guide::GIL_PROTECTED,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    declared_with(context, "pyo3::GILProtected", |place, name| {
        found.push(
            Finding::new(
                place,
                format!(
                    "`{name}` is protected by the GIL, and does not compile for free-threaded \
                     Python"
                ),
            )
            .label("a `GILProtected`")
            .note(since(context))
            .help(
                "`pyo3_sync::PyProtected<T>` for a `GILProtected<RefCell<T>>`: `.with_mut(py, \
                 |value| ..)` where there was `.get(py).borrow_mut()`; or a `PyMutex`, if others \
                 are to wait until the operation is over",
            ),
        );
    });
}
