//! `[package.metadata.pyo3-sync]` in Cargo.toml, or `[workspace.metadata.pyo3-sync]` for all packages that have none.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{finding::Severity, rules};

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Rules that are not to be applied.
    pub allow: Vec<String>,
    /// Rules that are off unless they are named here.
    pub enable: Vec<String>,
    /// Rules whose findings fail the check whatever the threshold.
    pub deny: Vec<String>,
    /// Files and folders, relative to the package, that are not checked.
    pub exclude: Vec<String>,
    /// From which severity on findings fail the check.
    pub fail_on: Option<Severity>,
}

impl Config {
    /// Reads the table from a package's or workspace's `metadata`.
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
