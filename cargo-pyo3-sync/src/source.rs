//! Source files: their text, syntax tree, and comments that allow findings.
//!
//! Spans of `proc-macro2` are valid only on the thread that parsed them, so one thread parses and
//! checks all files. Parsing dominates the run time.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use proc_macro2::{Span, TokenStream};

/// A comment `// pyo3-sync: allow(rule) reason`.
#[derive(Debug)]
pub struct Allow {
    pub rule: String,
    /// The reason. A comment without a reason allows nothing.
    pub reason: String,
    /// The line of the comment, counted from 1.
    pub line: usize,
    /// `true` for `//! pyo3-sync: allow(..)`, which applies to the whole file.
    pub whole_file: bool,
}

pub struct SourceFile {
    pub path: PathBuf,
    pub text: String,
    pub tree: syn::File,
    pub allows: Vec<Allow>,
    /// The offset of each line.
    lines: Vec<usize>,
    /// The length of the byte order mark and `#!` line, which are not parsed.
    skipped: usize,
}

/// The error of reading or parsing a file.
#[derive(Debug, Clone)]
pub struct SourceError {
    pub path: PathBuf,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl SourceFile {
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let failed = |line, column, message| SourceError {
            path: path.to_owned(),
            line,
            column,
            message,
        };
        let bytes = std::fs::read(path).map_err(|error| failed(0, 0, error.to_string()))?;
        let text = String::from_utf8(bytes)
            .map_err(|error| failed(0, 0, format!("not UTF-8: {error}")))?;
        Self::parse(path, text).map_err(|(line, column, message)| failed(line, column, message))
    }

    /// Parses a text. An error is a line, a column and a message.
    pub fn parse(path: &Path, text: String) -> Result<Self, (usize, usize, String)> {
        let skipped = before_the_code(&text);
        let code = &text[skipped..];
        let stream: TokenStream = code.parse().map_err(|error: proc_macro2::LexError| {
            let start = error.span().start();
            (start.line, start.column + 1, error.to_string())
        })?;
        let tree: syn::File = syn::parse2(stream).map_err(|error| {
            let start = error.span().start();
            (start.line, start.column + 1, error.to_string())
        })?;
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(index, _)| index + 1))
            .collect();
        let mut file = SourceFile {
            path: path.to_owned(),
            allows: Vec::new(),
            text,
            tree,
            lines,
            skipped,
        };
        file.allows = file.find_allows();
        Ok(file)
    }

    /// Parses the text into tokens.
    ///
    /// Their spans differ from the spans of the tree. `range` supports both.
    pub fn tokens(&self) -> TokenStream {
        self.text[self.skipped..].parse().unwrap_or_default()
    }

    /// Returns the bytes of the text that a span covers.
    pub fn range(&self, span: Span) -> Range<usize> {
        let range = span.byte_range();
        let shift = |offset: usize| (offset + self.skipped).min(self.text.len());
        shift(range.start)..shift(range.end).max(shift(range.start))
    }

    /// Returns the line and column of an offset, both counted from 1. Columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= offset) - 1;
        let column = self.text[self.lines[line]..offset].chars().count();
        (line + 1, column + 1)
    }

    /// Returns a line by its number, counted from 1.
    pub fn line(&self, number: usize) -> &str {
        let start = self.lines[number - 1];
        let end = self.lines.get(number).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// Returns the comment lines and attributes directly above a line.
    pub fn comment_above(&self, line: usize) -> String {
        let mut above = Vec::new();
        for number in (1..line).rev() {
            let text = self.line(number).trim();
            if text.starts_with("//") || text.starts_with("#[") {
                above.push(text);
            } else {
                break;
            }
        }
        above.reverse();
        above.join("\n")
    }

    /// Returns the comment that allows `rule` at `line`.
    ///
    /// The comment is on the line itself, or above it with only comments and attributes in between.
    pub fn allow(&self, rule: &str, line: usize) -> Option<&Allow> {
        let mut first = line;
        while first > 1 {
            let above = self.line(first - 1).trim_start();
            if above.starts_with("//") || above.starts_with("#[") {
                first -= 1;
            } else {
                break;
            }
        }
        self.allows.iter().find(|allow| {
            !allow.reason.is_empty()
                && (allow.rule == rule || allow.rule == "all")
                && (allow.whole_file || (first..=line).contains(&allow.line))
        })
    }

    fn find_allows(&self) -> Vec<Allow> {
        let mut allows = Vec::new();
        for number in 1..=self.lines.len() {
            let text = self.line(number);
            let Some(start) = text.find("pyo3-sync: allow(") else {
                continue;
            };
            let Some(comment) = text[..start].rfind("//") else {
                continue;
            };
            let opening = text[comment..start].trim();
            if opening != "//" && opening != "//!" {
                continue;
            }
            let rest = &text[start + "pyo3-sync: allow(".len()..];
            let Some((rules, reason)) = rest.split_once(')') else {
                continue;
            };
            let reason = reason.trim_start_matches([':', '-', ' ']).trim();
            for rule in rules.split(',') {
                allows.push(Allow {
                    rule: rule.trim().to_owned(),
                    reason: reason.to_owned(),
                    line: number,
                    whole_file: opening == "//!",
                });
            }
        }
        allows
    }
}

/// Returns the length of a byte order mark and `#!` line, which `proc-macro2` rejects.
fn before_the_code(text: &str) -> usize {
    let mark = if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    let rest = &text[mark..];
    if rest.starts_with("#!") && !rest[2..].trim_start().starts_with('[') {
        mark + rest.find('\n').unwrap_or(rest.len())
    } else {
        mark
    }
}
