//! Each file in `tests/rules/RULE` says with `//~ rule` on which lines something is to be found, and nothing else may be: by the rule of
//! its folder or by any other that is on by default.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use cargo_pyo3_sync::{
    check::{self, Options},
    rules,
};

fn files_of(rule: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/rules").join(rule);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn expected(text: &str) -> BTreeSet<(usize, String)> {
    text.lines()
        .enumerate()
        .filter_map(|(number, line)| {
            line.split_once("//~ ")
                .map(|(_, rule)| (number + 1, rule.trim().to_owned()))
        })
        .collect()
}

#[test]
fn finds_what_is_marked_and_nothing_else() {
    let mut wrong = Vec::new();
    for rule in rules::ALL {
        let files = files_of(rule.id);
        let mut found_anywhere = false;
        let mut silent_somewhere = false;
        for path in files {
            let text = std::fs::read_to_string(&path).unwrap();
            let pyo3 = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("//@ pyo3 "))
                .map(|version| version.parse().unwrap());
            let options = Options {
                enable: vec![rule.id.to_owned()],
                pyo3,
                ..Options::default()
            };
            let outcome = check::run(&path, &options).unwrap();
            assert!(
                outcome.errors.is_empty(),
                "{}: {:?}",
                path.display(),
                outcome.errors
            );
            let expected = expected(&text);
            found_anywhere |= expected.iter().any(|(_, name)| name == rule.id);
            silent_somewhere |= expected.is_empty();
            let found: BTreeSet<(usize, String)> = outcome
                .findings
                .iter()
                .map(|finding| (finding.line, finding.rule.to_owned()))
                .collect();
            for (line, name) in found.difference(&expected) {
                wrong.push(format!(
                    "{}:{line}: {name} is found, and should not be",
                    path.display()
                ));
            }
            for (line, name) in expected.difference(&found) {
                wrong.push(format!("{}:{line}: {name} is not found", path.display()));
            }
        }
        assert!(
            found_anywhere,
            "no file in tests/rules/{} has a marker for it",
            rule.id
        );
        assert!(
            silent_somewhere,
            "no file in tests/rules/{} shows what is not to be found",
            rule.id
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_page_and_a_section_of_the_guide() {
    let guide = std::fs::read_to_string("../MIGRATION.md").unwrap();
    let anchors: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .map(anchor)
        .collect();
    let readme = std::fs::read_to_string("README.md").unwrap();
    for rule in rules::ALL {
        assert!(
            rule.page.starts_with(&format!("# {}: ", rule.id)),
            "{}: begins with its name",
            rule.id
        );
        assert!(
            rule.page
                .contains(&format!("Consequence: {}.", rule.severity)),
            "{}: {}",
            rule.id,
            rule.severity
        );
        let section = rule.guide.strip_prefix("MIGRATION.md#").unwrap();
        assert!(
            anchors.contains(section),
            "{}: there is no section {section} in MIGRATION.md",
            rule.id
        );
        assert!(
            readme.contains(&format!("| `{}` | {} |", rule.id, rule.severity)),
            "{}: not in the table of README.md",
            rule.id
        );
    }
}

/// The name that a heading has in links.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            letter if letter.is_alphanumeric() || letter == '_' || letter == '-' => Some(letter),
            _ => None,
        })
        .collect()
}
