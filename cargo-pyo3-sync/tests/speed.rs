//! 50,000 lines in under two seconds, if it was built to be fast; within twenty otherwise.
//!
//! It is the time of the thread that counts, since all is done on one: what else the machine does is none of our affair.

use std::{fmt::Write as _, path::Path, time::Duration};

use cargo_pyo3_sync::check::{self, Options};
use cpu_time::ThreadTime;

#[test]
fn fifty_thousand_lines_take_less_than_two_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let sources: Vec<String> = [
        "account",
        "lru_cache",
        "module_state",
        "settings",
        "work_queue",
    ]
    .iter()
    .map(|name| {
        std::fs::read_to_string(Path::new("../examples").join(name).join("before.rs")).unwrap()
    })
    .collect();
    let (mut lines, mut files) = (0, 0);
    while lines < 50_000 {
        let mut text = String::new();
        // Files of the size that one finds, each in a module of its own.
        for (number, source) in sources.iter().enumerate() {
            let body = source
                .lines()
                .filter(|line| !line.starts_with("//!"))
                .collect::<Vec<_>>()
                .join("\n");
            writeln!(text, "mod part_{number} {{\n{body}\n}}").unwrap();
        }
        lines += text.lines().count();
        std::fs::write(folder.path().join(format!("file_{files}.rs")), text).unwrap();
        files += 1;
    }
    let start = ThreadTime::now();
    let outcome = check::run(folder.path(), &Options::default()).unwrap();
    let taken = start.elapsed();
    println!(
        "{lines} lines in {files} files: {taken:?}, {} findings",
        outcome.findings.len()
    );
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    assert!(
        outcome.findings.len() >= files,
        "something is found in each file"
    );
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });
    assert!(
        taken < limit,
        "{lines} lines took {taken:?}, more than {limit:?}"
    );
}
