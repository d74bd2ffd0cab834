//! `cargo pyo3-sync` finds code in a PyO3 extension that relies on the GIL.
//!
//! - `workspace` finds the files, and `source` parses them.
//! - `context` analyzes a crate for all rules: names, types, the events of each function, and which
//!   functions run attached.
//! - `rules` contains one file per rule. Each rule has a page in `rules/`.
//! - `check` runs the rules, `report` and `verdict` print the result, and `fix` applies mechanical
//!   fixes.

pub mod check;
pub mod config;
pub mod context;
pub mod finding;
pub mod fix;
pub mod report;
pub mod rules;
pub mod source;
pub mod verdict;
pub mod workspace;
