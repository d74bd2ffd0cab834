//! `pyo3-sync` beside `pyo3`, among the dependencies.

use std::path::Path;

use anyhow::{Context as _, Result};
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// The manifest with the dependency in it. Every version of pyo3-sync 0.1 takes PyO3 0.26 to 0.30, whichever the project has.
///
/// `local` is a checkout to depend on, as seen from the manifest.
pub(super) fn add(manifest: &str, local: Option<&Path>) -> Result<String> {
    let mut document: DocumentMut = manifest.parse().context("parsing Cargo.toml")?;
    let mut requirement = in_tests(&document).unwrap_or_else(|| {
        let mut requirement = InlineTable::new();
        match local {
            Some(path) => requirement.insert("path", Value::from(path.display().to_string())),
            None => requirement.insert("version", Value::from("0.1")),
        };
        requirement
    });
    if is_optional(&mut document) && add_to_features(&mut document) {
        requirement.insert("optional", Value::from(true));
    }
    let table = dependencies(&mut document)?;
    let position = table
        .get("pyo3")
        .and_then(Item::as_table)
        .filter(|pyo3| !pyo3.is_dotted())
        .and_then(Table::position);
    let item = match position {
        // Where each dependency has a table of its own, as `[dependencies.pyo3]`.
        Some(position) => {
            let mut own = requirement.into_table();
            own.set_position(position);
            own.decor_mut().set_prefix("\n");
            Item::Table(own)
        }
        None => Item::Value(match requirement.get("version") {
            Some(version) if requirement.len() == 1 => version.clone(),
            _ => Value::InlineTable(requirement),
        }),
    };
    table.insert("pyo3-sync", item);
    Ok(document.to_string())
}

/// How tests and build scripts have it already; cargo takes one source of a crate only.
fn in_tests(document: &DocumentMut) -> Option<InlineTable> {
    let item = ["dev-dependencies", "build-dependencies"]
        .iter()
        .find_map(|table| document.get(table)?.get("pyo3-sync"))?;
    match item.clone().into_value().ok()? {
        Value::InlineTable(mut table) => {
            table.fmt();
            Some(table)
        }
        version => Some(InlineTable::from_iter([("version", version)])),
    }
}

/// The table with `pyo3`: `dependencies`, or that of a target.
fn dependencies(document: &mut DocumentMut) -> Result<&mut dyn TableLike> {
    let has_pyo3 = |item: &Item| item.get("pyo3").is_some();
    if !document.get("dependencies").is_some_and(has_pyo3) {
        let target = document
            .get("target")
            .and_then(Item::as_table_like)
            .and_then(|targets| {
                targets.iter().find_map(|(name, target)| {
                    target
                        .get("dependencies")
                        .is_some_and(has_pyo3)
                        .then(|| name.to_owned())
                })
            });
        if let Some(target) = target {
            return document["target"][&target]["dependencies"]
                .as_table_like_mut()
                .context("`dependencies` of a target in Cargo.toml is not a table");
        }
    }
    document
        .entry("dependencies")
        .or_insert_with(|| Item::Table(Table::new()))
        .as_table_like_mut()
        .context("`dependencies` in Cargo.toml is not a table")
}

fn is_optional(document: &mut DocumentMut) -> bool {
    dependencies(document).is_ok_and(|table| {
        table
            .get("pyo3")
            .and_then(|pyo3| pyo3.get("optional"))
            .and_then(Item::as_bool)
            .unwrap_or(false)
    })
}

/// Adds it to the features that turn PyO3 on, and says whether there are any. Without `dep:` the dependency itself is the feature, which
/// cannot turn on another one.
fn add_to_features(document: &mut DocumentMut) -> bool {
    let Some(features) = document
        .get_mut("features")
        .and_then(Item::as_table_like_mut)
    else {
        return false;
    };
    let mut found = false;
    for (_, feature) in features.iter_mut() {
        let Some(list) = feature.as_array_mut() else {
            continue;
        };
        let position = list
            .iter()
            .position(|entry| entry.as_str() == Some("dep:pyo3"));
        if let Some(position) = position {
            list.insert(position + 1, "dep:pyo3-sync");
            found = true;
        }
    }
    found
}
