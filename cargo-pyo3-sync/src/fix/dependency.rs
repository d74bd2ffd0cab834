//! `pyo3-sync` in `[dependencies]`.

use std::path::Path;

use anyhow::{Context as _, Result};
use toml_edit::{DocumentMut, InlineTable, Item, Table, Value};

/// The manifest with the dependency in it. Every version of pyo3-sync 0.1 takes PyO3 0.26 to 0.30, whichever the project has.
pub(super) fn add(manifest: &str, local: Option<&Path>) -> Result<String> {
    let mut document: DocumentMut = manifest.parse().context("parsing Cargo.toml")?;
    let dependencies = document
        .entry("dependencies")
        .or_insert_with(|| Item::Table(Table::new()));
    let table = dependencies
        .as_table_like_mut()
        .context("`dependencies` in Cargo.toml is not a table")?;
    let value = match local {
        Some(path) => {
            let mut inline = InlineTable::new();
            inline.insert("path", Value::from(path.display().to_string()));
            Value::InlineTable(inline)
        }
        None => Value::from("0.1"),
    };
    table.insert("pyo3-sync", Item::Value(value));
    Ok(document.to_string())
}
