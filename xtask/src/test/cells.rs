//! The cells of the matrix: every supported build that can be run or compiled here.

use super::{
    checks::{self, Checked},
    workspace::Dependencies,
};

pub(super) struct Cell {
    /// The difference from the default build.
    pub(super) name: String,
    /// Runs on every submission.
    pub(super) is_fast: bool,
    pub(super) what: What,
}

pub(super) enum What {
    Suite(Suite),
    /// A build that is only compiled.
    Check(Box<dyn Fn() -> anyhow::Result<Checked>>),
}

/// The suite, built for the first interpreter and loaded in all of them.
#[derive(Default)]
pub(super) struct Suite {
    pub(super) interpreters: Vec<String>,
    /// A missing interpreter is no failure.
    pub(super) is_optional: bool,
    pub(super) dependencies: Dependencies<'static>,
    pub(super) features: Vec<String>,
    pub(super) release: bool,
    pub(super) rust_flags: &'static str,
}

/// The tested versions of PyO3, besides the highest, which is in Cargo.lock.
///
/// The cell of the lowest version is fast.
const PYO3: [&str; 4] = ["0.26.0", "0.27.1", "0.28.3", "0.29.0"];

/// Other systems, a version of Python, and whether tests can start processes there.
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
    // `cargo test` runs the suite in the same interpreter, embedded.
    let mut cells = vec![suite("default", &["python3"])];
    for older in pythons::OTHERS.into_iter().rev() {
        let cell = match older {
            // PyO3 0.30 does not support this version.
            "3.13t" => suite("PyO3 0.28.3", &[older])
                .with(|suite| suite.dependencies = Dependencies::PyO3("0.28.3")),
            _ => suite("default", &[older]),
        };
        cells.push(cell.with(|suite| suite.is_optional = true));
    }
    for wanted in pythons::WANTED {
        let cell = suite("default", &[wanted]);
        // In 3.15 the module for the stable ABI is tested.
        let is_fast = wanted != "3.15";
        cells.push(Cell { is_fast, ..cell });
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
    for version in PYO3 {
        for interpreter in ["3.14", "3.14t"] {
            let cell = suite(&format!("PyO3 {version}"), &[interpreter]);
            cells.push(Cell {
                is_fast: version == PYO3[0] && interpreter == "3.14t",
                ..cell.with(|suite| suite.dependencies = Dependencies::PyO3(version))
            });
        }
    }
    for interpreter in ["3.14", "3.14t"] {
        let newest = suite("newest versions", &[interpreter]);
        cells.push(newest.with(|suite| suite.dependencies = Dependencies::Newest));
    }
    for interpreter in ["3.14", "3.14t"] {
        cells.push(suite("release", &[interpreter]).with(|suite| suite.release = true));
    }
    for interpreter in ["3.14", "3.14t"] {
        // The code for systems of which the crate uses nothing but the standard library.
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
    let older = pythons::OTHERS
        .into_iter()
        .rev()
        .filter(|name| !name.ends_with('t'));
    let found = older
        .into_iter()
        .find(|name| pythons::look_for(name).is_ok());
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

    /// Its name with the interpreters, by which `--cell` chooses it.
    pub(super) fn label(&self) -> String {
        match &self.what {
            What::Suite(suite) => format!("{}, {}", self.name, suite.interpreters.join(" and ")),
            What::Check(_) => self.name.clone(),
        }
    }
}
