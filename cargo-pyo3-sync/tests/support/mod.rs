//! Running the command, and git, in a folder.

use std::{
    path::Path,
    process::{Command, Output},
};

/// `cargo pyo3-sync ARGUMENTS` in the folder.
pub(crate) fn checker(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cargo-pyo3-sync"))
        .current_dir(folder)
        .arg("pyo3-sync")
        .args(arguments)
        .output()
        .unwrap()
}

pub(crate) fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        errors(&output)
    );
}

/// Makes the folder a repository, in which everything is committed.
pub(crate) fn commit_all(folder: &Path) {
    git(folder, &["init", "-q"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "as it was"]);
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
