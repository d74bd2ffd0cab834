//! The rules, one file each.
//!
//! Each rule has a page in `rules/`, which `cargo pyo3-sync explain` shows.

mod attached_lock;
mod blocking_slow;
mod blocking_wait;
mod drop_under_lock;
mod ffi_borrowed;
mod fork_hazard;
mod gil_declaration;
mod gil_once_cell;
mod gil_protected;
mod guard_across_python;
mod lazy_touches_python;
mod lock_order;
mod pyclass_interior;
mod pyclass_mut_self;
pub(crate) mod pyclass_not_frozen;
mod pyclass_unsendable;
mod shared_traverse;
mod static_mut;
mod thread_local_object;
mod traverse_lock;
mod unguarded_iteration;
mod unsafe_marker;
mod untraversed_lock;

use anyhow::{Context as _, Result};

use crate::{
    context::Context,
    finding::{Finding, Severity},
};

pub struct Rule {
    pub id: &'static str,
    pub severity: Severity,
    /// A short description of the reported pattern.
    pub title: &'static str,
    /// The text that `cargo pyo3-sync explain` shows.
    pub page: &'static str,
    /// The section of the migration guide that describes the solution.
    pub guide: &'static str,
    /// `false` for rules that often report correct code.
    pub on_by_default: bool,
    pub check: fn(&Context<'_>, &mut Vec<Finding>),
}

/// Sections of MIGRATION.md.
mod guide {
    pub(super) const GIL_ONCE_CELL: &str = "MIGRATION.md#1-giloncecell";
    pub(super) const GIL_PROTECTED: &str = "MIGRATION.md#2-gilprotectedrefcellt";
    pub(super) const MUT_SELF: &str = "MIGRATION.md#3-pyclass-with-mut-self";
    pub(super) const STATICS: &str = "MIGRATION.md#5-static-mut-thread_local-unsendable";
    pub(super) const LAZIES: &str = "MIGRATION.md#6-lazy_static-lazylock-oncelock-once_cell";
    pub(super) const LOCKS: &str =
        "MIGRATION.md#7-locks-of-std-and-parking_lot-and-waiting-while-attached";
    pub(super) const COLLECTOR: &str = "MIGRATION.md#8-caches-of-python-objects-and-the-collector";
    pub(super) const FFI: &str = "MIGRATION.md#10-raw-ffi";
    pub(super) const DECLARING: &str = "MIGRATION.md#11-declaring-support-wheels-and-leaving-again";
}

/// All rules, the most severe first.
pub const ALL: &[Rule] = &[
    static_mut::RULE,
    unsafe_marker::RULE,
    pyclass_interior::RULE,
    ffi_borrowed::RULE,
    shared_traverse::RULE,
    lazy_touches_python::RULE,
    guard_across_python::RULE,
    blocking_wait::RULE,
    lock_order::RULE,
    traverse_lock::RULE,
    fork_hazard::RULE,
    drop_under_lock::RULE,
    attached_lock::RULE,
    gil_once_cell::RULE,
    gil_protected::RULE,
    pyclass_mut_self::RULE,
    pyclass_unsendable::RULE,
    thread_local_object::RULE,
    unguarded_iteration::RULE,
    gil_declaration::RULE,
    untraversed_lock::RULE,
    blocking_slow::RULE,
    pyclass_not_frozen::RULE,
];

/// Returns the rule `id`.
///
/// # Errors
///
/// Returns an error for users if there is no such rule.
pub fn find(id: &str) -> Result<&'static Rule> {
    ALL.iter()
        .find(|rule| rule.id == id)
        .with_context(|| format!("there is no rule `{id}`; `cargo pyo3-sync explain` lists them"))
}
