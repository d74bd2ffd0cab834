//! The outcome, for people, for programs and for code-scanning services.

pub mod human;
pub mod json;
pub mod sarif;
