//! Classes that nothing borrows mutably but that are not `frozen`.

use super::{Rule, guide, pyclass_mut_self};
use crate::{
    context::{Context, index::TypeItem},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "pyclass-not-frozen",
    severity: Severity::Slow,
    title: "a class that could be `frozen`",
    page: include_str!("../../rules/pyclass-not-frozen.md"),
    guide: guide::MUT_SELF,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for item in context
        .index
        .types
        .iter()
        .filter(|item| could_be_frozen(context, item))
    {
        let place = item
            .class
            .as_ref()
            .and_then(|class| class.place)
            .unwrap_or(item.place);
        found.push(
            Finding::new(
                place,
                format!(
                    "`{}` is never borrowed mutably, and does not say so",
                    item.name
                ),
            )
            .label("could be `frozen`")
            .note(
                "each call of a method counts a borrow up and down, in a number that all threads \
                 share",
            )
            .help(
                "`#[pyclass(frozen)]`, which the compiler then holds you to; `cargo pyo3-sync fix` \
                 adds it",
            ),
        );
    }
}

/// Returns `true` if the class is not `frozen` and nothing in the crate borrows it mutably.
pub(crate) fn could_be_frozen(context: &Context<'_>, item: &TypeItem<'_>) -> bool {
    let Some(class) = &item.class else {
        return false;
    };
    // PyO3 makes enums with fields `frozen` implicitly.
    if class.frozen || class.unsendable || (item.is_enum && !item.fields.is_empty()) {
        return false;
    }
    if !pyclass_mut_self::settable(item).is_empty() {
        return false;
    }
    // A base of a class that is not frozen must not be frozen.
    let subclassed = context.index.types.iter().any(|other| {
        other.class.as_ref().is_some_and(|other| {
            other.extends.as_deref() == Some(item.name.as_str()) && !other.frozen
        })
    });
    let extends_own = class.extends.as_deref().is_some_and(|base| {
        context
            .index
            .type_named(base, item.place.file)
            .is_some_and(|base| base.class.as_ref().is_some_and(|base| !base.frozen))
    });
    !subclassed && !extends_own && !context.mutably_borrowed.contains(&item.name)
}
