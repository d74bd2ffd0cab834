//! The figures of the corpus as tables, and their limits.

use std::{collections::BTreeMap, fmt::Write, fs, iter::Sum, ops::Add, path::Path};

use anyhow::{Context, ensure};

use super::{Counts, NO_RULE, Outcome};

const PRECISION: f64 = 0.9;
const RECALL: f64 = 0.8;

/// Of fewer findings, a single false one would decide.
const ENOUGH: usize = 10;

/// The program writes the part of the page between these.
const BEGIN: &str = "<!-- cargo corpus --write: begin -->\n";
const END: &str = "<!-- end -->\n";

pub(super) fn tables(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (held_out, title) in [(false, "By rule"), (true, "By rule, in packages held out")] {
        let outcomes = outcomes.iter();
        let counts = by_rule(outcomes.filter(|outcome| outcome.package.held_out == held_out));
        if !counts.is_empty() {
            let rows = counts.iter().map(|(rule, counts)| match *rule {
                NO_RULE => (NO_RULE.to_owned(), *counts),
                rule => (format!("`{rule}`"), *counts),
            });
            table(&mut text, title, "rule", rows);
        }
    }
    let rows = outcomes.iter().map(|outcome| {
        let name = &outcome.package.name;
        let versions = outcome.package.versions().join(", ");
        let held_out = if outcome.package.held_out {
            ", held out"
        } else {
            ""
        };
        let name = format!("{name} {versions} ({} lines{held_out})", outcome.lines);
        (name, outcome.counts.values().sum())
    });
    table(&mut text, "By package", "package", rows);
    text
}

fn by_rule<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> BTreeMap<&'a str, Counts> {
    let mut sums = BTreeMap::<&str, Counts>::new();
    for (rule, counts) in outcomes.flat_map(|outcome| &outcome.counts) {
        let sum = sums.entry(rule).or_default();
        *sum = *sum + *counts;
    }
    sums
}

fn table(
    text: &mut String,
    title: &str,
    first: &str,
    rows: impl Iterator<Item = (String, Counts)>,
) {
    let mut sum = Counts::default();
    let _ = writeln!(text, "### {title}\n");
    let _ = writeln!(
        text,
        "| {first} | findings | true | false | precision | changes | told | recall |"
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|---|---|");
    for (name, counts) in rows {
        let _ = writeln!(text, "| {name} | {counts} |");
        sum = sum + counts;
    }
    let _ = writeln!(text, "| all | {sum} |\n");
}

/// Writes the tables into the page, between the marks.
pub(super) fn write(page: &Path, tables: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(page)?;
    let replaced = between_marks(&text, tables)
        .with_context(|| format!("{} has no marks for the tables", page.display()))?;
    fs::write(page, replaced)?;
    Ok(())
}

fn between_marks(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}{END}{after}"))
}

/// Returns an error if a finding has no label or a figure is below its limit.
pub(super) fn complain(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let mut all = Counts::default();
    for (rule, counts) in by_rule(outcomes.iter()) {
        counts.complain_of_labels(rule, &mut wrong);
        counts.complain_of_precision(rule, &mut wrong);
        all = all + counts;
    }
    all.complain_of_precision("all rules", &mut wrong);
    all.complain_of_recall(&mut wrong);
    ensure!(wrong.is_empty(), "{}", wrong.join("\nerror: "));
    Ok(())
}

impl Counts {
    fn precision(&self) -> Option<f64> {
        ratio(self.right, self.right + self.wrong)
    }

    fn recall(&self) -> Option<f64> {
        ratio(self.told, self.changes)
    }

    fn complain_of_labels(&self, rule: &str, wrong: &mut Vec<String>) {
        for (count, what) in [
            (self.unlabelled, "findings without a label"),
            (
                self.lost,
                "findings labelled as true that are not found any more",
            ),
        ] {
            if count > 0 {
                wrong.push(format!("{rule}: {count} {what}"));
            }
        }
    }

    fn complain_of_precision(&self, rule: &str, wrong: &mut Vec<String>) {
        let is_enough = self.right + self.wrong >= ENOUGH;
        if let Some(figure) = self.precision().filter(|&figure| figure < PRECISION) {
            if is_enough {
                wrong.push(format!(
                    "{rule}: precision is {figure:.2}, below {PRECISION}"
                ));
            }
        }
    }

    fn complain_of_recall(&self, wrong: &mut Vec<String>) {
        if let Some(figure) = self.recall().filter(|&figure| figure < RECALL) {
            wrong.push(format!("recall is {figure:.2}, below {RECALL}"));
        }
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The cells of a row.
impl std::fmt::Display for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let figure =
            |figure: Option<f64>| figure.map_or("".to_owned(), |figure| format!("{figure:.2}"));
        write!(
            formatter,
            "{} | {} | {} | {} | {} | {} | {}",
            self.right + self.wrong + self.unlabelled,
            self.right,
            self.wrong,
            figure(self.precision()),
            self.changes,
            self.told,
            figure(self.recall())
        )
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Counts {
            right: self.right + other.right,
            wrong: self.wrong + other.wrong,
            unlabelled: self.unlabelled + other.unlabelled,
            lost: self.lost + other.lost,
            changes: self.changes + other.changes,
            told: self.told + other.told,
        }
    }
}

impl<'a> Sum<&'a Counts> for Counts {
    fn sum<I: Iterator<Item = &'a Self>>(counts: I) -> Self {
        counts.fold(Counts::default(), |sum, counts| sum + *counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_below_what_is_promised_is_complained_of() {
        let complaints = |counts: Counts| {
            let mut wrong = Vec::new();
            counts.complain_of_labels("r", &mut wrong);
            counts.complain_of_precision("r", &mut wrong);
            counts.complain_of_recall(&mut wrong);
            wrong.len()
        };
        let good = Counts {
            right: 9,
            wrong: 1,
            changes: 10,
            told: 8,
            ..Counts::default()
        };
        assert_eq!(complaints(good), 0);
        assert_eq!(complaints(Counts::default()), 0);
        assert_eq!(complaints(Counts { wrong: 2, ..good }), 1);
        assert_eq!(complaints(Counts { told: 7, ..good }), 1);
        assert_eq!(
            complaints(Counts {
                unlabelled: 1,
                ..good
            }),
            1
        );
        assert_eq!(complaints(Counts { lost: 1, ..good }), 1);
        let few = Counts {
            right: 1,
            wrong: 1,
            ..Counts::default()
        };
        assert_eq!(complaints(few), 0);
    }

    #[test]
    fn tables_replace_what_is_between_the_marks() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let once = between_marks(&page, "new\n").unwrap();
        assert!(
            once.starts_with("before\n") && once.ends_with("after\n") && !once.contains("old"),
            "{once}"
        );
        assert_eq!(between_marks(&once, "new\n").unwrap(), once);
        assert!(between_marks("no marks", "").is_none());
    }
}
