//! The extensions of the guide: before they were ported something is found in each, and after nothing.

use std::path::Path;

use cargo_pyo3_sync::{
    check::{self, Options},
    verdict::Answer,
};

const NAMES: [&str; 10] = [
    "account",
    "counter",
    "iterator",
    "lazy_types",
    "lru_cache",
    "module_state",
    "parser",
    "registry",
    "settings",
    "work_queue",
];

/// What is found in each before it was ported.
const BEFORE: [(&str, &str); 10] = [
    ("account", "lock-order"),
    ("counter", "pyclass-mut-self"),
    ("iterator", "pyclass-mut-self"),
    ("lazy_types", "lazy-touches-python"),
    ("lru_cache", "pyclass-mut-self"),
    ("module_state", "guard-across-python"),
    ("parser", "pyclass-unsendable"),
    ("registry", "unsafe-marker"),
    ("settings", "guard-across-python"),
    ("work_queue", "blocking-wait"),
];

#[test]
fn each_example_has_findings_before_and_none_after() {
    for (name, rule) in BEFORE {
        let before = check::run(
            &Path::new("../examples").join(name).join("before.rs"),
            &Options::default(),
        )
        .unwrap();
        assert!(
            before.findings.iter().any(|finding| finding.rule == rule),
            "{name}: {rule} is not found"
        );
        let after = check::run(
            &Path::new("../examples").join(name).join("after.rs"),
            &Options::default(),
        )
        .unwrap();
        let found: Vec<String> = after
            .findings
            .iter()
            .map(|finding| format!("{} at line {}", finding.rule, finding.line))
            .collect();
        assert!(found.is_empty(), "{name}, ported: {found:?}");
        assert_eq!(after.verdict.answer, Answer::Ready);
    }
}

#[test]
fn all_examples_of_the_repository_are_known_here() {
    let mut folders: Vec<String> = std::fs::read_dir("../examples")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("before.rs").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, NAMES);
}
