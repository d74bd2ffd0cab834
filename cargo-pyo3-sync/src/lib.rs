//! `cargo pyo3-sync`: what in a PyO3 extension relies on the GIL.
//!
//! - `workspace` finds the files, `source` parses them.
//! - `context` is what all rules know about a crate: names, types, what each function does, what runs attached.
//! - `rules` look for things; one file each, with a page in `rules/`.
//! - `check` puts these together, `report` and `verdict` tell the outcome, `fix` changes what can be changed without thinking.

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
