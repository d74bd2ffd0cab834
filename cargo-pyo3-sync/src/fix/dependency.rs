//! Adds `pyo3-sync` to the dependencies in `Cargo.toml`.

use std::path::Path;

use anyhow::{Context as _, Result};
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// Returns the manifest with `pyo3-sync` added to its dependencies.
///
/// The version requirement is `0.1`, because every such version supports PyO3 0.26 to 0.30.
/// `local` is a checkout to depend on instead. Its path is relative to the manifest.
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
        // `pyo3` has a table of its own: `[dependencies.pyo3]`.
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

/// Returns the requirement of the dev-dependencies or build-dependencies, if there is one.
///
/// The new dependency reuses it, because cargo accepts only one source per crate.
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

/// Returns the table that contains `pyo3`: `dependencies`, or the one of a target.
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

/// Adds `pyo3-sync` to the features that enable PyO3. Returns `false` if there are none.
///
/// Only `dep:pyo3` counts. Without `dep:`, the optional dependency is itself the feature, and such
/// a feature cannot enable another dependency.
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
