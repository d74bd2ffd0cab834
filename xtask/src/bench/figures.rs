//! The figures that the benchmarks have written, of one interpreter or several.

use std::{fs, path::Path};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

/// The name of this crate's subject; see `benches/src/harness.rs`.
pub(super) const OURS: &str = "pyo3-sync";

/// All figures of one interpreter.
#[derive(Deserialize)]
pub(super) struct Run {
    /// The name of the interpreter: `3.14t`.
    #[serde(skip)]
    pub(super) interpreter: String,
    /// Its version.
    pub(super) python: String,
    pub(super) free_threaded: bool,
    pub(super) benchmarks: Vec<Benchmark>,
    pub(super) memory: Vec<Memory>,
}

#[derive(Deserialize)]
pub(super) struct Benchmark {
    /// `group: benchmark`.
    pub(super) name: String,
    /// Which figure of the rounds ratios are made of: `minimum` or `median`.
    counts: String,
    pub(super) subjects: Vec<Subject>,
    pub(super) targets: Vec<Target>,
}

#[derive(Deserialize)]
pub(super) struct Subject {
    pub(super) name: String,
    minimum: f64,
    median: f64,
    pub(super) least_share: Option<f64>,
    /// In nanoseconds.
    pub(super) longest_wait: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Target {
    pub(super) quantity: String,
    pub(super) peer: String,
    pub(super) at_most: f64,
    pub(super) ratio: f64,
    /// `PASS`, `EVEN` or `MISS`.
    pub(super) verdict: String,
}

/// Bytes.
#[derive(Deserialize)]
pub(super) struct Memory {
    pub(super) name: String,
    pub(super) empty: usize,
    pub(super) with_object: Option<usize>,
    pub(super) used: Option<f64>,
    pub(super) waits: Option<f64>,
}

impl Run {
    /// Reads the figures of an interpreter.
    pub(super) fn read(folder: &Path, interpreter: &str) -> anyhow::Result<Self> {
        let file = folder.join(format!("{interpreter}.json"));
        let text = fs::read_to_string(&file)
            .with_context(|| format!("nothing has been measured in {interpreter} yet"))?;
        let run = serde_json::from_str(&text)
            .with_context(|| format!("{} is of another version", file.display()))?;
        Ok(Run {
            interpreter: interpreter.to_owned(),
            ..run
        })
    }

    pub(super) fn benchmark(&self, name: &str) -> Option<&Benchmark> {
        let mut benchmarks = self.benchmarks.iter();
        benchmarks.find(|benchmark| benchmark.name == name)
    }

    /// `3.14.9, free-threaded`.
    pub(super) fn version(&self) -> String {
        let number = self.python.split(' ').next().unwrap_or_default();
        let build = if self.free_threaded {
            "free-threaded"
        } else {
            "with the GIL"
        };
        format!("{number}, {build}")
    }
}

impl Benchmark {
    /// The figure of a subject that counts.
    pub(super) fn figure(&self, subject: &Subject) -> f64 {
        match self.counts.as_str() {
            "median" => subject.median,
            _ => subject.minimum,
        }
    }

    pub(super) fn of(&self, name: &str) -> Option<f64> {
        let mut subjects = self.subjects.iter();
        let subject = subjects.find(|subject| subject.name == name)?;
        Some(self.figure(subject))
    }

    pub(super) fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// The name without the number of threads at its end, and that number.
    pub(super) fn family(&self) -> Option<(&str, u32)> {
        let (family, threads) = self.name.rsplit_once(", ")?;
        let number = threads
            .strip_suffix(" threads")
            .or_else(|| threads.strip_suffix(" thread"))?;
        Some((family, number.parse().ok()?))
    }
}

impl Target {
    pub(super) fn is_missed(&self) -> bool {
        self.verdict == "MISS"
    }
}

/// Replaces the figures that were measured again.
pub(super) fn merge(new: &Path, kept: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    };
    let mut now = read(new)?;
    if let Ok(before) = read(kept) {
        let lists = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        for key in ["benchmarks", "memory"] {
            let mut merged = lists(&before, key);
            for measured in lists(&now, key) {
                let name = &measured["name"];
                match merged.iter_mut().find(|kept| &kept["name"] == name) {
                    Some(kept) => *kept = measured,
                    None => merged.push(measured),
                }
            }
            now[key] = merged.into();
        }
    }
    Ok(fs::write(kept, format!("{now:#}\n"))?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_measured_again_is_kept() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (new, kept) = (folder.path().join("new"), folder.path().join("kept"));
        let figures = |names: &[(&str, u32)]| {
            let named = |(name, figure): &(&str, u32)| json!({ "name": name, "figure": figure });
            let benchmarks: Vec<Value> = names.iter().map(named).collect();
            json!({ "benchmarks": benchmarks, "memory": [] }).to_string()
        };
        fs::write(&kept, figures(&[("a", 1), ("b", 1)]))?;
        fs::write(&new, figures(&[("b", 2), ("c", 2)]))?;
        merge(&new, &kept)?;
        let merged: Value = serde_json::from_str(&fs::read_to_string(&kept)?)?;
        let expected: Value = serde_json::from_str(&figures(&[("a", 1), ("b", 2), ("c", 2)]))?;
        assert_eq!(merged, expected);
        Ok(())
    }
}
