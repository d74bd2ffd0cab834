//! Findings of rules.

use std::{fmt, path::PathBuf, str::FromStr};

use proc_macro2::Span;
use serde::{Deserialize, Serialize};

/// The consequence of a finding on free-threaded Python, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Correct, but slower or with more memory than necessary.
    Slow,
    /// Callers get an exception that they cannot handle, or the code does not compile.
    RuntimeError,
    /// Threads deadlock.
    Deadlock,
    /// Undefined behavior: lost updates or crashes.
    Unsound,
}

impl Severity {
    pub const ALL: [Severity; 4] = [
        Severity::Unsound,
        Severity::Deadlock,
        Severity::RuntimeError,
        Severity::Slow,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Slow => "slow",
            Severity::RuntimeError => "runtime-error",
            Severity::Deadlock => "deadlock",
            Severity::Unsound => "unsound",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Severity::ALL
            .into_iter()
            .find(|severity| severity.name() == name)
            .ok_or_else(|| format!("`{name}` is none of unsound, deadlock, runtime-error, slow"))
    }
}

/// A span in a file of a crate.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub file: usize,
    pub span: Span,
}

/// A finding, as a rule returns it.
#[derive(Debug)]
pub struct Finding {
    pub place: Place,
    /// The problem, in one sentence.
    pub message: String,
    /// The label of the underlined code.
    pub label: String,
    /// Other places that the finding refers to.
    pub related: Vec<(Place, String)>,
    pub notes: Vec<String>,
    /// The suggested replacement.
    pub help: String,
}

impl Finding {
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Finding {
            place,
            message: message.into(),
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
            help: String::new(),
        }
    }

    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// A finding with all data for output, independent of the source.
#[derive(Debug, Clone, Serialize)]
pub struct Reported {
    pub rule: &'static str,
    pub severity: Severity,
    pub path: PathBuf,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
    pub message: String,
    pub label: String,
    pub notes: Vec<String>,
    pub help: String,
    /// The section of the guide and the page of the rule.
    pub docs: String,
    pub related: Vec<Related>,
    #[serde(skip)]
    pub range: std::ops::Range<usize>,
    #[serde(skip)]
    pub crate_index: usize,
    #[serde(skip)]
    pub file_index: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Related {
    pub path: PathBuf,
    pub line: usize,
    pub column: usize,
    pub label: String,
    #[serde(skip)]
    pub range: std::ops::Range<usize>,
    #[serde(skip)]
    pub file_index: usize,
}
