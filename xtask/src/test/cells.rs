//! What the matrix consists of: every build that is supported, as far as it can be had.

use super::checks::{self, Checked};
use crate::python;

pub(super) struct Cell {
    /// What is special about it.
    pub(super) name: String,
    /// Whether it is one of the few that are run on every submission.
    pub(super) is_fast: bool,
    pub(super) what: What,
}

pub(super) enum What {
    Suite(Suite),
    /// Something that is only compiled.
    Check(Box<dyn Fn() -> anyhow::Result<Checked>>),
}

/// The suite, built for the first of some interpreters and loaded in all of them.
#[derive(Default)]
pub(super) struct Suite {
    pub(super) interpreters: Vec<String>,
    /// An interpreter that this machine does not have is no failure.
    pub(super) is_optional: bool,
    pub(super) pyo3: Option<&'static str>,
    pub(super) features: Vec<String>,
    pub(super) release: bool,
    pub(super) rust_flags: &'static str,
}

/// The versions of PyO3 besides the one that cargo chooses, which is the highest; and whether they are fast cells: the lowest, and one in
/// the middle.
const PYO3: [(&str, bool); 4] = [
    ("0.26.0", true),
    ("0.27.1", false),
    ("0.28.3", true),
    ("0.29.0", false),
];

/// Other systems, a Python there, and whether there could be a process that runs the tests.
const PLATFORMS: [(&str, &str, bool); 6] = [
    ("x86_64-pc-windows-msvc", "3.9", false),
    ("x86_64-pc-windows-msvc", "3.14t", true),
    ("aarch64-apple-darwin", "3.14t", true),
    ("x86_64-unknown-freebsd", "3.14t", true),
    ("i686-unknown-linux-gnu", "3.14", false),
    ("wasm32-unknown-emscripten", "3.14", false),
];

/// All cells, in the order of the table.
pub(super) fn all() -> Vec<Cell> {
    let mut cells = vec![suite("default", &["python3"]).fast()];
    for older in python::OTHERS.into_iter().rev() {
        let cell = match older {
            // PyO3 0.30 takes no such Python any more.
            "3.13t" => suite("PyO3 0.28.3", &[older]).with(|suite| suite.pyo3 = Some("0.28.3")),
            _ => suite("default", &[older]),
        };
        cells.push(cell.with(|suite| suite.is_optional = true));
    }
    for wanted in python::WANTED {
        cells.push(suite("default", &[wanted]).fast());
    }
    let abi3 = suite("abi3-py39", &[&oldest(), "3.15"]);
    cells.push(
        abi3.with(|suite| suite.features.push("pyo3/abi3-py39".to_owned()))
            .fast(),
    );
    let abi3t = suite("abi3t-py315", &["3.15t", "3.15"]);
    cells.push(
        abi3t
            .with(|suite| suite.features.push("pyo3/abi3t-py315".to_owned()))
            .fast(),
    );
    for (version, is_fast) in PYO3 {
        for interpreter in ["3.14", "3.14t"] {
            let cell = suite(&format!("PyO3 {version}"), &[interpreter]);
            cells.push(Cell {
                is_fast,
                ..cell.with(|suite| suite.pyo3 = Some(version))
            });
        }
    }
    for interpreter in ["3.14", "3.14t"] {
        cells.push(suite("release", &[interpreter]).with(|suite| suite.release = true));
    }
    for interpreter in ["3.14", "3.14t"] {
        // As on a system that has nothing but what the standard library asks for.
        let portable = suite("portable", &[interpreter]);
        cells.push(portable.with(|suite| suite.rust_flags = "--cfg pyo3_sync_portable"));
    }
    cells.push(
        check("no features", || {
            checks::features(&["--no-default-features"])
        })
        .fast(),
    );
    cells.push(check("all features", || checks::features(&["--all-features"])).fast());
    cells.push(check("oldest Rust", checks::oldest_rust).fast());
    cells.push(check("package", checks::package).fast());
    cells.push(check("lowest versions", checks::lowest_versions).fast());
    cells.push(check("PyPy 3.11", checks::pypy));
    for (target, python, with_tests) in PLATFORMS {
        let name = format!("{target}, {python}");
        cells.push(check(&name, move || {
            checks::platform(target, python, with_tests)
        }));
    }
    cells
}

/// The oldest interpreter that the machine has.
fn oldest() -> String {
    let older = python::OTHERS
        .into_iter()
        .rev()
        .filter(|name| !name.ends_with('t'));
    let found = older
        .into_iter()
        .find(|name| python::look_for(name).is_ok());
    found.unwrap_or("python3").to_owned()
}

fn suite(name: &str, interpreters: &[&str]) -> Cell {
    let interpreters = interpreters.iter().map(|name| (*name).to_owned()).collect();
    Cell {
        name: name.to_owned(),
        is_fast: false,
        what: What::Suite(Suite {
            interpreters,
            ..Suite::default()
        }),
    }
}

fn check(name: &str, run: impl Fn() -> anyhow::Result<Checked> + 'static) -> Cell {
    Cell {
        name: name.to_owned(),
        is_fast: false,
        what: What::Check(Box::new(run)),
    }
}

impl Cell {
    fn fast(mut self) -> Self {
        self.is_fast = true;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Suite)) -> Self {
        if let What::Suite(suite) = &mut self.what {
            change(suite);
        }
        self
    }

    /// Its name with the interpreters, by which it can be chosen.
    pub(super) fn label(&self) -> String {
        match &self.what {
            What::Suite(suite) => format!("{}, {}", self.name, suite.interpreters.join(" and ")),
            What::Check(_) => self.name.clone(),
        }
    }
}
