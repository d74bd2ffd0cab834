//! The machine's apt sources, rewritten for another suite of the same mirror.
//!
//! Keys, mirror lists and other options of an entry are kept, and so is its notation: a line
//! (`*.list`) or a stanza of fields (`*.sources`).

use std::{fs, path::Path};

use anyhow::Context;

/// A file with one source of packages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The notation: `list` or `sources`.
    pub(super) extension: &'static str,
    pub(super) text: String,
}

/// Returns the machine's sources that are mirrors of Debian, rewritten for this suite.
pub(super) fn for_suite(suite: &str) -> anyhow::Result<Vec<Source>> {
    let folder = Path::new("/etc/apt");
    let parts = folder.join("sources.list.d");
    let mut files = vec![folder.join("sources.list")];
    if parts.is_dir() {
        files.extend(fs::read_dir(parts)?.filter_map(|entry| Some(entry.ok()?.path())));
    }
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(text.lines().filter_map(|line| from_line(line, suite))),
            Some("sources") => sources.extend(
                stanzas(&text)
                    .iter()
                    .filter_map(|stanza| from_stanza(stanza, suite)),
            ),
            _ => {}
        }
    }
    Ok(sources)
}

/// Rewrites `deb [options] uri suite component...`.
fn from_line(line: &str, suite: &str) -> Option<Source> {
    let rest = line
        .trim()
        .strip_prefix("deb")?
        .strip_prefix([' ', '\t'])?
        .trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, release) = (words.next()?, words.next()?);
    if !is_release(release) || !words.any(|component| component == "main") {
        return None;
    }
    let text = format!(
        "deb [{} target=Packages] {uri} {suite} main\n",
        options.trim()
    );
    Some(Source {
        extension: "list",
        text,
    })
}

/// Rewrites a stanza of fields.
fn from_stanza(stanza: &str, suite: &str) -> Option<Source> {
    let fields = fields(stanza);
    let words = |name: &str| {
        let field = fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        field
            .map(|field| field.text.split_whitespace().skip(1))
            .into_iter()
            .flatten()
    };
    let offers_packages = words("Types:").any(|kind| kind == "deb");
    let is_on = !words("Enabled:").any(|word| word == "no");
    let has_main = words("Components:").any(|component| component == "main");
    if !(offers_packages && is_on && has_main && words("Suites:").any(is_release)) {
        return None;
    }
    let mut text = format!("Types: deb\nSuites: {suite}\nComponents: main\nTargets: Packages\n");
    let replaced = ["Types:", "Suites:", "Components:", "Targets:", "Enabled:"];
    for field in &fields {
        if !replaced
            .iter()
            .any(|name| field.name.eq_ignore_ascii_case(name))
        {
            text.push_str(&field.text);
        }
    }
    Some(Source {
        extension: "sources",
        text,
    })
}

/// Returns whether a suite is a release, and not its updates, security fixes or backports.
fn is_release(suite: &str) -> bool {
    !suite.contains(['-', '/'])
}

fn stanzas(text: &str) -> Vec<String> {
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    without_comments
        .split(|line| line.trim().is_empty())
        .map(|lines| lines.join("\n"))
        .collect()
}

struct Field {
    /// With the colon: `URIs:`.
    name: String,
    /// The whole field: its name, its value, and the lines that continue it.
    text: String,
}

fn fields(stanza: &str) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for line in stanza.lines() {
        match fields.last_mut() {
            Some(field) if line.starts_with([' ', '\t']) => {
                field.text.push_str(&format!("{line}\n"))
            }
            _ => {
                let name = line
                    .split_inclusive(':')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                fields.push(Field {
                    name,
                    text: format!("{line}\n"),
                });
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: &str) -> Option<String> {
        from_line(line, "forky").map(|source| source.text)
    }

    fn stanza(stanza: &str) -> Option<String> {
        from_stanza(stanza, "forky").map(|source| source.text)
    }

    #[test]
    fn a_line_keeps_its_options_and_its_mirror() {
        assert_eq!(
            line("deb [arch=amd64 signed-by=/key.gpg] mirror+file:/mirrors bookworm main contrib")
                .unwrap(),
            "deb [arch=amd64 signed-by=/key.gpg target=Packages] mirror+file:/mirrors forky main\n"
        );
        assert_eq!(
            line("deb\tfile:/debian stable main").unwrap(),
            "deb [ target=Packages] file:/debian forky main\n"
        );
    }

    #[test]
    fn other_lines_are_passed_over() {
        for other in [
            "",
            "# deb file:/debian bookworm main",
            "deb-src file:/debian bookworm main",
            "deb file:/debian bookworm-updates main",
            "deb file:/debian stable/updates main",
            "deb file:/other bookworm stable",
            "deb [arch=amd64 file:/debian bookworm main",
            "deb file:/flat ./",
        ] {
            assert_eq!(line(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_stanza_keeps_its_other_fields() {
        let text = "Types: deb deb-src\nURIs: file:/debian\nsuites: bookworm\n bookworm-updates\n\
                    Components: main\nSigned-By:\n -----BEGIN-----\n .\n abc\nTrusted: yes\n";
        assert_eq!(
            stanza(text).unwrap(),
            "Types: deb\nSuites: forky\nComponents: main\nTargets: Packages\nURIs: file:/debian\n\
             Signed-By:\n -----BEGIN-----\n .\n abc\nTrusted: yes\n"
        );
    }

    #[test]
    fn other_stanzas_are_passed_over() {
        for other in [
            "",
            "Types: deb-src\nURIs: file:/debian\nSuites: bookworm\nComponents: main\n",
            "Types: deb\nURIs: file:/debian\nSuites: bookworm-security\nComponents: main\n",
            "Types: deb\nURIs: file:/other\nSuites: bookworm\nComponents: stable\n",
            "Types: deb\nURIs: file:/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n",
        ] {
            assert_eq!(stanza(other), None, "{other:?}");
        }
    }

    #[test]
    fn stanzas_end_at_empty_lines_and_not_at_comments() {
        assert_eq!(
            stanzas("A: 1\n# comment\nB: 2\n\nC: 3\n"),
            ["A: 1\nB: 2", "C: 3"]
        );
    }
}
