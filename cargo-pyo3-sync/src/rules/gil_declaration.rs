//! A `#[pymodule]` without `gil_used`, for which PyO3's default applies.

use semver::Version;

use super::{Rule, guide};
use crate::{
    context::Context,
    finding::{Finding, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "gil-declaration",
    severity: Severity::RuntimeError,
    title: "a `#[pymodule]` that does not say whether it relies on the GIL",
    page: include_str!("../../rules/gil-declaration.md"),
    guide: guide::DECLARING,
    on_by_default: true,
    check,
};

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    let Some(version) = context
        .source
        .pyo3
        .as_ref()
        .filter(|_| context.source.is_extension)
    else {
        return;
    };
    for module in context
        .index
        .modules
        .iter()
        .filter(|module| !module.submodule && module.gil_used.is_none())
    {
        let finding =
            if *version >= Version::new(0, 28, 0) {
                Finding::new(
                module.place,
                format!("PyO3 {version} takes it that `{}` supports free-threaded Python, since it \
                         says nothing", module.name),
            )
            .note("from 0.28 on; an extension that was never ported gets no warning")
            .help("`#[pymodule(gil_used = false)]` when everything else here is settled; `gil_used \
                   = true` until then")
            } else if *version >= Version::new(0, 23, 0) {
                Finding::new(
                    module.place,
                    format!(
                        "free-threaded Python switches the GIL on, for the whole process, when it \
                         imports `{}`",
                        module.name
                    ),
                )
                .note(format!(
                    "PyO3 {version} declares no support unless it is told to"
                ))
                .help("`#[pymodule(gil_used = false)]` when everything else here is settled")
            } else {
                Finding::new(
                    module.place,
                    format!("PyO3 {version} does not support free-threaded Python"),
                )
                .help("PyO3 0.26 or later; pyo3-sync supports 0.26 to 0.30")
            };
        found.push(finding.label("does not declare `gil_used`"));
    }
}
