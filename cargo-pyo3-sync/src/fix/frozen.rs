//! Adds `frozen` to each `#[pyclass]` that nothing borrows mutably.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};

use super::{Edit, Plan};
use crate::{context::Context, rules::pyclass_not_frozen::could_be_frozen};

pub(super) fn plan(context: &Context<'_>, edits: &mut BTreeMap<usize, Vec<Edit>>, plan: &mut Plan) {
    let version = context.source.pyo3.as_ref();
    // PyO3 supports `frozen` since 0.18.
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

/// Returns the end offset of the word `pyclass` in the attribute.
///
/// The word can be within a `cfg_attr`, and it can follow `pyo3::`.
fn end_of_name(attribute: TokenStream) -> Option<usize> {
    attribute.into_iter().find_map(|token| match token {
        TokenTree::Group(group) => end_of_name(group.stream()),
        TokenTree::Ident(ident) if ident == "pyclass" => Some(ident.span().byte_range().end),
        _ => None,
    })
}
