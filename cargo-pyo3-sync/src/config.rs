//! The configuration in Cargo.toml.
//!
//! It is `[package.metadata.pyo3-sync]`, or `[workspace.metadata.pyo3-sync]` for packages without
//! that table.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::finding::Severity;

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Rules that are not applied.
    pub allow: Vec<String>,
    /// Rules that are off by default and applied anyway.
    pub enable: Vec<String>,
    /// Rules whose findings fail the check regardless of the threshold.
    pub deny: Vec<String>,
    /// Files and directories, relative to the package, that are not checked.
    pub exclude: Vec<String>,
    /// The lowest severity that fails the check.
    pub fail_on: Option<Severity>,
}

impl Config {
    /// Reads the table from the `metadata` of a package or workspace.
    pub fn from_metadata(metadata: &serde_json::Value) -> Result<Option<Self>> {
        let Some(table) = metadata.get("pyo3-sync") else {
            return Ok(None);
        };
        let config = serde_json::from_value(table.clone())
            .context("in the table `metadata.pyo3-sync` of Cargo.toml")?;
        Ok(Some(config))
    }

    /// Returns the names of rules in the table. They may not exist.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        let lists = self.allow.iter().chain(&self.enable).chain(&self.deny);
        lists.map(String::as_str)
    }

    /// Returns whether the rule `id` is applied, which is on or off by default.
    pub fn is_on(&self, id: &str, on_by_default: bool) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == id);
        !named(&self.allow) && (on_by_default || named(&self.enable) || named(&self.deny))
    }
}
