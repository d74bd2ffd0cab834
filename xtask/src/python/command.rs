//! Running other programs: silent when they succeed, and an error with their own words when they fail.

use anyhow::{Context, bail};
use xshell::Cmd;

/// Runs a command and returns what it printed. The error carries the end of what it complained about.
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
