//! The configuration in Cargo.toml.
//!
//! It is `[package.metadata.pyo3-sync]`, or `[workspace.metadata.pyo3-sync]` for packages without
//! that table.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{finding::Severity, rules};

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
        let config: Config = serde_json::from_value(table.clone())
            .context("in the table `metadata.pyo3-sync` of Cargo.toml")?;
        config.check_names()?;
        Ok(Some(config))
    }

    pub fn check_names(&self) -> Result<()> {
        for name in self.allow.iter().chain(&self.enable).chain(&self.deny) {
            if rules::find(name).is_none() {
                bail!("there is no rule `{name}`; `cargo pyo3-sync explain` lists them");
            }
        }
        Ok(())
    }

    pub fn is_on(&self, rule: &rules::Rule) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == rule.id);
        !named(&self.allow) && (rule.on_by_default || named(&self.enable) || named(&self.deny))
    }
}
