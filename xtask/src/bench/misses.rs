//! Why a target is missed: the reasons that `benches/misses.toml` keeps.

use std::fs;

use anyhow::Context;
use serde::Deserialize;

use super::figures::{Benchmark, Run, Target};
use pythons::build::workspace;

#[derive(Deserialize)]
pub(super) struct Misses {
    miss: Vec<Miss>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Miss {
    /// A prefix of the name of the benchmark.
    benchmark: String,
    /// Of which build: `gil` or `free-threaded`; both, if that is not said.
    build: Option<String>,
    /// Beside which peer; whichever, if that is not said.
    peer: Option<String>,
    reason: String,
}

impl Misses {
    pub(super) fn read() -> anyhow::Result<Self> {
        let file = workspace().join("benches/misses.toml");
        let text = fs::read_to_string(&file)?;
        toml::from_str(&text).with_context(|| format!("cannot read {}", file.display()))
    }

    pub(super) fn reason(&self, run: &Run, benchmark: &Benchmark, target: &Target) -> Option<&str> {
        let build = if run.free_threaded {
            "free-threaded"
        } else {
            "gil"
        };
        let is_it = |miss: &&Miss| {
            benchmark.name.starts_with(&miss.benchmark)
                && miss.build.as_deref().is_none_or(|of| of == build)
                && miss.peer.as_deref().is_none_or(|peer| peer == target.peer)
        };
        let miss = self.miss.iter().find(is_it)?;
        Some(&miss.reason)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_of_reasons_can_be_read() {
        super::Misses::read().expect("it is as it should be");
    }
}
