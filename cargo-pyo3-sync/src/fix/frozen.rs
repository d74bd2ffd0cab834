//! `#[pyclass]` becomes `#[pyclass(frozen)]` where nothing borrows the class mutably.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};

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
        let Some(name) = attribute.parse().ok().and_then(end_of_name) else {
            continue;
        };
        let end = range.start + name;
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

/// Where the word `pyclass` ends in the attribute: it may stand in a `cfg_attr`, and behind `pyo3::`.
fn end_of_name(attribute: TokenStream) -> Option<usize> {
    attribute.into_iter().find_map(|token| match token {
        TokenTree::Group(group) => end_of_name(group.stream()),
        TokenTree::Ident(ident) if ident == "pyclass" => Some(ident.span().byte_range().end),
        _ => None,
    })
}
