//! The files of the corpus: facts about a package, written by its reviewers.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use pythons::published::Registry;
use serde::Deserialize;

use super::Finding;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) registry: Registry,
    /// Not used while the rules were written.
    #[serde(default)]
    pub(super) held_out: bool,
    #[serde(default, rename = "port")]
    pub(super) ports: Vec<Port>,
    /// Versions without a known port. Their findings count for precision, and they have no recall.
    #[serde(default, rename = "versions")]
    without_port: Vec<String>,
    #[serde(default, rename = "change")]
    changes: Vec<Change>,
    #[serde(default, rename = "finding")]
    labels: Vec<Label>,
}

/// Two versions with a port between them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) before: String,
    pub(super) after: String,
    /// A summary.
    #[expect(dead_code, reason = "for people")]
    what: String,
}

/// Code of the earlier version that the port changed because of threads. The checker should report
/// it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    version: String,
    /// `None` if no rule is about it.
    pub(super) rule: Option<String>,
    pub(super) path: String,
    /// The lines of a finding that reports it, or of a place related to the finding.
    pub(super) lines: Vec<usize>,
    pub(super) what: String,
}

/// The verdict on findings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    version: String,
    pub(super) rule: String,
    pub(super) path: String,
    lines: Vec<usize>,
    pub(super) verdict: Verdict,
    pub(super) why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// The statement of the rule is correct, and the author must act on it.
    True,
    /// A false alarm.
    False,
}

impl Package {
    pub(super) fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let mut packages = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let package = Self::read(&path).with_context(|| path.display().to_string())?;
                packages.push(package);
            }
        }
        packages
            .sort_by(|one, other| (one.held_out, &one.name).cmp(&(other.held_out, &other.name)));
        Ok(packages)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let package: Self = toml::from_str(&fs::read_to_string(path)?)?;
        package.check_labels()?;
        Ok(package)
    }

    /// Versions are known, changes are of a version before a port, and no place has two labels.
    fn check_labels(&self) -> anyhow::Result<()> {
        ensure!(!self.versions().is_empty(), "there is no version");
        let mut places = Vec::new();
        for label in &self.labels {
            let version = &*label.version;
            ensure!(
                self.versions().contains(&version),
                "there is no version {version}"
            );
            for line in &label.lines {
                let place = (version, &label.rule, &label.path, line);
                ensure!(!places.contains(&place), "labelled twice: {place:?}");
                places.push(place);
            }
        }
        for change in &self.changes {
            let version = &change.version;
            ensure!(
                self.ports.iter().any(|port| port.before == *version),
                "no port begins at {version}"
            );
        }
        Ok(())
    }

    pub(super) fn versions(&self) -> Vec<&str> {
        let mut versions = Vec::new();
        let of_ports = self
            .ports
            .iter()
            .flat_map(|port| [&*port.before, &*port.after]);
        for version in of_ports.chain(self.without_port.iter().map(String::as_str)) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    }

    pub(super) fn changes_of(&self, version: &str) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |change| change.version == version)
    }

    pub(super) fn labels_of(&self, version: &str) -> impl Iterator<Item = &Label> {
        self.labels
            .iter()
            .filter(move |label| label.version == version)
    }

    pub(super) fn label(&self, version: &str, finding: &Finding) -> Option<&Label> {
        self.labels_of(version)
            .find(|label| label.is_about(finding) && label.lines.contains(&finding.line))
    }
}

impl Change {
    pub(super) fn is_told_by(&self, finding: &Finding) -> bool {
        let is_here = |path: String, line| path == self.path && self.lines.contains(&line);
        self.rule.as_ref() == Some(&finding.rule)
            && (is_here(finding.path(), finding.line)
                || finding
                    .related
                    .iter()
                    .any(|place| is_here(place.path(), place.line)))
    }
}

impl Label {
    fn is_about(&self, finding: &Finding) -> bool {
        finding.rule == self.rule && finding.path() == self.path
    }

    /// The lines where nothing is found.
    pub(super) fn not_found(&self, findings: &[Finding]) -> Vec<usize> {
        let is_found = |line: usize| {
            findings
                .iter()
                .any(|finding| self.is_about(finding) && finding.line == line)
        };
        self.lines
            .iter()
            .copied()
            .filter(|&line| !is_found(line))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Place, *};

    const HEAD: &str =
        "name = 'a'\nregistry = 'rust'\n[[port]]\nbefore = '1'\nafter = '2'\nwhat = ''\n";

    fn package(text: &str) -> anyhow::Result<Package> {
        let package: Package = toml::from_str(&format!("{HEAD}{text}"))?;
        package.check_labels()?;
        Ok(package)
    }

    fn finding(line: usize) -> Finding {
        Finding {
            rule: "r".to_owned(),
            path: "p".into(),
            line,
            message: String::new(),
            related: Vec::new(),
        }
    }

    #[test]
    fn a_label_is_for_one_version_rule_path_and_line() {
        let label = "[[finding]]\nversion = '1'\nrule = 'r'\npath = 'p'\nlines = [3, 5]\n\
                     verdict = 'false'\nwhy = ''\n";
        let package = package(label).unwrap();
        assert_eq!(
            package.label("1", &finding(5)).unwrap().verdict,
            Verdict::False
        );
        assert!(package.label("1", &finding(4)).is_none());
        assert!(package.label("2", &finding(5)).is_none());
        assert!(
            package
                .label(
                    "1",
                    &Finding {
                        rule: "s".to_owned(),
                        ..finding(5)
                    }
                )
                .is_none()
        );
        assert!(
            package
                .label(
                    "1",
                    &Finding {
                        path: "q".into(),
                        ..finding(5)
                    }
                )
                .is_none()
        );
        assert_eq!(package.labels[0].not_found(&[finding(3)]), [5]);
    }

    #[test]
    fn a_change_is_told_in_any_of_its_lines() {
        let change =
            "[[change]]\nversion = '1'\nrule = 'r'\npath = 'p'\nlines = [3, 5]\nwhat = ''\n";
        let package = package(change).unwrap();
        let told = |line| package.changes[0].is_told_by(&finding(line));
        assert_eq!([3, 4, 5].map(told), [true, false, true]);
        let mut finding = finding(4);
        finding.related.push(Place {
            path: "p".into(),
            line: 5,
        });
        assert!(package.changes[0].is_told_by(&finding));
    }

    #[test]
    fn what_contradicts_itself_is_an_error() {
        let label = "[[finding]]\nversion = '1'\nrule = 'r'\npath = 'p'\nlines = [3]\n\
                     verdict = 'true'\nwhy = ''\n";
        assert!(package(&label.repeat(2)).is_err());
        assert!(package(&label.replace("'1'", "'3'")).is_err());
        let change = "[[change]]\nversion = '2'\nrule = 'r'\npath = 'p'\nlines = [3]\nwhat = ''\n";
        assert!(package(change).is_err());
    }

    #[test]
    fn a_version_needs_no_port() {
        let read = |versions: &str| -> anyhow::Result<Package> {
            let package: Package =
                toml::from_str(&format!("name = 'a'\nregistry = 'rust'\n{versions}"))?;
            package.check_labels()?;
            Ok(package)
        };
        assert_eq!(
            read("versions = ['1', '2']").unwrap().versions(),
            ["1", "2"]
        );
        assert!(read("").is_err());
    }
}
