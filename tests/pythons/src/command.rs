//! Runs other programs, silently unless they fail.

use anyhow::{Context, bail};
use xshell::Cmd;

/// Runs a command and returns its output. The error contains the last lines of standard error.
pub(super) fn run(command: Cmd<'_>) -> anyhow::Result<String> {
    let shown = command.to_string();
    let output = command
        .quiet()
        .ignore_status()
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last_words = last_lines(complaint.trim(), 12);
        bail!("`{shown}` failed ({}): {last_words}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
