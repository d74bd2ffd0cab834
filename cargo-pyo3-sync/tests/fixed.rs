//! What `fix` writes must compile: extensions as they were before their ports are fixed, in a repository of git, and given to cargo.
//!
//! They are the packages in `tests/fix`, and one for each shape that a manifest can have. All are one workspace, with the lock file of
//! the repository and one folder for what is built: PyO3 is compiled once, and not again in the next run. Nothing is downloaded.
//!
//! Before they are fixed they do not compile with this PyO3, which no longer has the types. With 0.27 they do, and so they must afterwards:
//!
//! ```console
//! $ cargo test -p cargo-pyo3-sync --test fixed -- --ignored    # downloads it, if it is not there
//! ```

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::{checker, commit_all, errors, text};
use tempfile::TempDir;

/// Manifests in which the dependency is to be found a place for. `PYO3` stands for a version that is not one yet.
const SHAPES: [(&str, &str); 14] = [
    (
        "plain",
        "[package]\nPACKAGE\n\n[dependencies]\npyo3 = \"PYO3\"\n",
    ),
    (
        "no_newline_at_the_end",
        "[package]\nPACKAGE\n[dependencies]\npyo3 = \"PYO3\"",
    ),
    (
        "inline_table",
        "[package]\nPACKAGE\n\n[dependencies]\n# The bindings.\npyo3 = { version = \"PYO3\", features = [\"abi3-py39\"] } # all of them\n\n\
         [features]\nfast = []\n",
    ),
    (
        "table_of_its_own",
        "[package]\nPACKAGE\n\n[dependencies.pyo3]\nversion = \"PYO3\"\nfeatures = [\n    \"abi3-py39\",\n]\n\n[features]\nfast = []\n",
    ),
    (
        "tables_of_both_kinds",
        "[package]\nPACKAGE\n\n[dependencies]\nlibc = \"0.2\"\n\n[dependencies.pyo3]\nversion = \"PYO3\"\n",
    ),
    (
        "dotted_keys",
        "[package]\nPACKAGE\n\n[dependencies]\npyo3.version = \"PYO3\"\npyo3.features = [\"abi3-py39\"]\n",
    ),
    (
        "dotted_at_the_root",
        "dependencies.pyo3 = \"PYO3\"\n\n[package]\nPACKAGE\n",
    ),
    (
        "inline_dependencies",
        "dependencies = { pyo3 = \"PYO3\" }\n\n[package]\nPACKAGE\n",
    ),
    (
        "inherited",
        "[package]\nPACKAGE\n\n[dependencies]\npyo3 = { workspace = true, features = [\"macros\"] }\n",
    ),
    (
        "inherited_dotted",
        "[package]\nPACKAGE\n\n[dependencies]\npyo3.workspace = true\n",
    ),
    (
        "of_a_target",
        "[package]\nPACKAGE\n\n[target.'cfg(not(target_arch = \"wasm32\"))'.dependencies]\npyo3 = \"PYO3\"\n\n[features]\nfast = []\n",
    ),
    (
        "optional",
        "[package]\nPACKAGE\n\n[dependencies]\npyo3 = { version = \"PYO3\", optional = true }\n\n\
         [features]\ndefault = [\"python\"]\npython = [\n    \"dep:pyo3\", # the bindings\n]\n",
    ),
    (
        "optional_by_its_name",
        "[package]\nPACKAGE\n\n[features]\ndefault = [\"pyo3\"]\n\n[dependencies]\npyo3 = { version = \"PYO3\", optional = true }\n",
    ),
    (
        "only_in_tests_so_far",
        "[package]\nPACKAGE\n\n[dependencies]\npyo3 = \"PYO3\"\n\n[dev-dependencies]\npyo3-sync = \"0.1\"\n",
    ),
];

const CELL: &str = "use pyo3::{sync::GILOnceCell, Python};\n\n\
    static CELL: GILOnceCell<u8> = GILOnceCell::new();\n\n\
    pub fn get(py: Python<'_>) -> Option<u8> {\n    CELL.get(py).copied()\n}\n";

/// The classes in `tests/fix/frozen` that nothing borrows mutably.
const FROZEN: [&str; 10] = [
    "Conditional",
    "Empty",
    "Holder",
    "InAnotherAttribute",
    "Named",
    "NamedAsTheFeature",
    "Plain",
    "Qualified",
    "Simple",
    "WithoutFields",
];

struct Workspace {
    folder: TempDir,
    pyo3: PyO3,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PyO3 {
    OfTheRepository,
    WithTheOldTypes,
}

impl Workspace {
    fn new(pyo3: PyO3) -> Self {
        let workspace = Workspace {
            folder: tempfile::tempdir().unwrap(),
            pyo3,
        };
        let root = workspace.root();
        copy(Path::new("tests/fix"), root);
        let mut members: Vec<String> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        for (name, manifest) in SHAPES {
            members.push(name.to_owned());
            let package = format!("name = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"");
            let manifest = manifest
                .replace("PACKAGE", &package)
                .replace("PYO3", ">=0.26, <0.31");
            fs::create_dir_all(root.join(name).join("src")).unwrap();
            fs::write(root.join(name).join("Cargo.toml"), manifest).unwrap();
            fs::write(root.join(name).join("src/lib.rs"), CELL).unwrap();
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let members = format!("members = {members:?}");
        fs::write(
            root.join("Cargo.toml"),
            manifest.replace("members = []", &members),
        )
        .unwrap();
        if pyo3 == PyO3::WithTheOldTypes {
            for (path, text) in workspace.files("toml") {
                fs::write(path, text.replace(">=0.26, <0.31", "0.27")).unwrap();
            }
        } else {
            fs::copy(repository().join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
        }
        commit_all(root);
        workspace
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `fix`, and gives what it prints.
    fn fix(&self, arguments: &[&str]) -> String {
        let output = checker(self.root(), &[&["fix", "--apply"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        text(&output)
    }

    /// `cargo check` of everything, tests too. With the newer PyO3 warnings are errors; the older one warns of the types themselves.
    fn check(&self) -> Output {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo
            .current_dir(self.root())
            .args([
                "check",
                "--workspace",
                "--all-targets",
                "--keep-going",
                "--quiet",
            ])
            .env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixed"),
            )
            // As an extension, for `abi3`: of no version in particular.
            .env("PYO3_BUILD_EXTENSION_MODULE", "1")
            .env("PYO3_NO_PYTHON", "1")
            .env_remove("PYO3_PYTHON")
            .env_remove("PYO3_CONFIG_FILE")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        match self.pyo3 {
            // `compat::GILProtected` is deprecated, as it was in PyO3.
            PyO3::OfTheRepository => cargo
                .env("RUSTFLAGS", "-D warnings -A deprecated")
                .arg("--offline"),
            PyO3::WithTheOldTypes => cargo.env("RUSTFLAGS", ""),
        };
        cargo.output().unwrap()
    }

    fn assert_compiles(&self) {
        let output = self.check();
        assert!(
            output.status.success(),
            "it does not compile:\n{}",
            errors(&output)
        );
    }

    /// All of a kind, with their texts.
    fn files(&self, extension: &str) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        let mut folders = vec![self.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|found| found == extension) {
                    let text = fs::read_to_string(&path).unwrap();
                    files.push((path, text));
                }
            }
        }
        files
    }
}

fn repository() -> PathBuf {
    Path::new("..").canonicalize().unwrap()
}

/// Copies a folder; what is called `Cargo.toml.in`, so that it is no package there, is one in the copy.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(name));
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap().replace(
            "@REPOSITORY@",
            &repository().display().to_string().replace('\\', "/"),
        );
        fs::write(to.join(name.trim_end_matches(".in")), text).unwrap();
    }
}

#[test]
fn what_fix_writes_compiles() {
    let workspace = Workspace::new(PyO3::OfTheRepository);
    let printed = workspace.fix(&[]);
    assert!(!printed.contains("left alone"), "{printed}");
    let frozen: BTreeSet<&str> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("`frozen` for `")?.strip_suffix('`'))
        .collect();
    assert_eq!(frozen, BTreeSet::from(FROZEN));
    workspace.assert_compiles();

    // PyO3 has a `PyOnceLock` too, and it is not to be that one; but where somebody has chosen it.
    for (path, text) in workspace.files("rs") {
        let pyo3s = text
            .replace("pyo3_sync::PyOnceLock", "")
            .contains("sync::PyOnceLock");
        assert!(
            !pyo3s
                || path
                    .components()
                    .any(|part| part.as_os_str() == "half_ported"),
            "{}:\n{text}",
            path.display()
        );
    }
    let left = checker(
        workspace.root(),
        &[
            "check",
            "--only",
            "gil-once-cell",
            "--only",
            "gil-protected",
            "--only",
            "pyclass-not-frozen",
        ],
    );
    assert_eq!(left.status.code(), Some(0), "{}", text(&left));
    commit_all(workspace.root());
    assert_eq!(workspace.fix(&[]), "nothing to change\n");
}

#[test]
fn a_checkout_is_found_from_every_package() {
    let workspace = Workspace::new(PyO3::OfTheRepository);
    // As it is written by somebody who stands in the root of the workspace; the packages are in folders below.
    let root = workspace.root().canonicalize().unwrap();
    let checkout = pathdiff::diff_paths(repository(), root).unwrap();
    workspace.fix(&["--pyo3-sync-path", checkout.to_str().unwrap()]);
    for (path, text) in workspace.files("toml") {
        assert!(
            !text.contains("pyo3-sync = \"0.1\"") || text.contains("[dev-dependencies]"),
            "{}",
            path.display()
        );
    }
    workspace.assert_compiles();
}

#[test]
#[ignore = "compiles another PyO3"]
fn before_and_after_compile_with_the_last_pyo3_that_has_the_types() {
    let workspace = Workspace::new(PyO3::WithTheOldTypes);
    workspace.assert_compiles();
    commit_all(workspace.root());
    workspace.fix(&[]);
    workspace.assert_compiles();
}
