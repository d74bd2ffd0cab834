//! `#[pyclass]` becomes `#[pyclass(frozen)]` where nothing borrows the class mutably.

use std::collections::BTreeMap;

use super::{Edit, Plan};
use crate::{context::Context, rules::pyclass_not_frozen::could_be_frozen};

pub(super) fn plan(context: &Context<'_>, edits: &mut BTreeMap<usize, Vec<Edit>>, plan: &mut Plan) {
    let version = context.source.pyo3.as_ref();
    // `frozen` is there from PyO3 0.18 on.
    if version.is_some_and(|version| version.major == 0 && version.minor < 18) {
        return;
    }
    for item in context
        .index
        .types
        .iter()
        .filter(|item| could_be_frozen(context, item))
    {
        let Some(place) = item.class.as_ref().and_then(|class| class.place) else {
            continue;
        };
        let file = &context.files[place.file];
        let range = file.range(place.span);
        if file
            .allow("pyclass-not-frozen", file.position(range.start).0)
            .is_some()
        {
            continue;
        }
        let attribute = &file.text[range.clone()];
        // The name may stand in a `cfg_attr`, behind `pyo3::`.
        let Some(name) = attribute.find("pyclass") else {
            continue;
        };
        let end = range.start + name + "pyclass".len();
        let edit = match file.text[end..].chars().next() {
            Some('(') if file.text[end + 1..].trim_start().starts_with(')') => Edit {
                range: end + 1..end + 1,
                text: "frozen".to_owned(),
            },
            Some('(') => Edit {
                range: end + 1..end + 1,
                text: "frozen, ".to_owned(),
            },
            _ => Edit {
                range: end..end,
                text: "(frozen)".to_owned(),
            },
        };
        edits.entry(place.file).or_default().push(edit);
        plan.done.push(format!("`frozen` for `{}`", item.name));
    }
}
