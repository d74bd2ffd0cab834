//! C API functions that return a borrowed reference, or that iterate over a collection which
//! another thread can change.

use super::{Rule, guide};
use crate::{
    context::{Context, Operation, behaviour::Origin},
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "ffi-borrowed",
    severity: Severity::Unsound,
    title: "a function of the C interface that lends a reference, or needs a critical section",
    page: include_str!("../../rules/ffi-borrowed.md"),
    guide: guide::FFI,
    on_by_default: true,
    check,
};

/// The C API functions that this rule reports, each with its replacement.
const LENDERS: [(&str, &str); 14] = [
    (
        "PyList_GetItem",
        "`PyListMethods::get_item`, or `PyList_GetItemRef`",
    ),
    (
        "PyList_GET_ITEM",
        "`PyListMethods::get_item`, or `PyList_GetItemRef`",
    ),
    (
        "PyDict_GetItem",
        "`PyDictMethods::get_item`, or `PyDict_GetItemRef`",
    ),
    (
        "PyDict_GetItemWithError",
        "`PyDictMethods::get_item`, or `PyDict_GetItemRef`",
    ),
    (
        "PyDict_GetItemString",
        "`PyDictMethods::get_item`, or `PyDict_GetItemStringRef`",
    ),
    ("_PyDict_GetItem_KnownHash", "`PyDict_GetItemRef`"),
    ("PyDict_SetDefault", "`PyDict_SetDefaultRef`"),
    (
        "PyWeakref_GetObject",
        "`PyWeakrefMethods::upgrade`, or `PyWeakref_GetRef`",
    ),
    (
        "PyWeakref_GET_OBJECT",
        "`PyWeakrefMethods::upgrade`, or `PyWeakref_GetRef`",
    ),
    (
        "PyImport_AddModule",
        "`PyModule::import`, or `PyImport_AddModuleRef`",
    ),
    (
        "PySequence_Fast_GET_ITEM",
        "`PySequence_GetItem`; for a tuple it is right as it is",
    ),
    (
        "PySequence_Fast_ITEMS",
        "`PySequence_GetItem`, or a critical section on the list",
    ),
    (
        "PyDict_Next",
        "`PyDict::copy` and `iter`, or `locked_for_each` if the loop runs no Python code",
    ),
    (
        "_PyDict_Next",
        "`PyDict::copy` and `iter`, or `locked_for_each` if the loop runs no Python code",
    ),
];

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    for (_, event) in context.events() {
        let Operation::Ffi {
            function: name,
            first,
        } = &event.operation
        else {
            continue;
        };
        let Some((_, instead)) = LENDERS.iter().find(|(lender, _)| lender == name) else {
            continue;
        };
        // An attribute can return a new object on each access, which no other thread can change.
        // The source does not show whether it does.
        if event.in_critical_section || *first == Origin::Attribute {
            continue;
        }
        let message = match name.as_str() {
            "PyDict_Next" | "_PyDict_Next" => "another thread can change the dictionary in the \
                                               middle, and free what this has lent"
                .to_owned(),
            _ => format!("`{name}` lends a reference, and another thread can free the object"),
        };
        found.push(
            Finding::new(event.place, message)
                .label("lends without owning")
                .note("nobody else could take the object away while one held the GIL")
                .help(format!(
                    "{instead}; or `pyo3_sync::critical_section::with_critical_section` around it \
                     and the use of what it lends"
                )),
        );
    }
}
