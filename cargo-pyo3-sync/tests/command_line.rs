//! The command as its users have it: what it prints, its exit codes, what it changes.
//!
//! Outputs are compared with the files in `tests/snapshots`; `UPDATE_SNAPSHOTS=1 cargo test` writes them anew.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use support::{checker, commit_all, errors, git, text};
use tempfile::TempDir;

/// A copy of `tests/package`, which a test may change.
struct Package {
    folder: TempDir,
}

impl Package {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("src")).unwrap();
        fs::copy("tests/package/Cargo.toml.in", root.join("Cargo.toml")).unwrap();
        for name in ["lib.rs", "cache.rs"] {
            fs::copy(
                Path::new("tests/package/src").join(name),
                root.join("src").join(name),
            )
            .unwrap();
        }
        Package { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        self.write(name, &(self.read(name) + text));
    }

    /// Runs the command in the package.
    fn run(&self, arguments: &[&str]) -> Output {
        checker(self.folder.path(), arguments)
    }

    fn git(&self, arguments: &[&str]) {
        git(self.folder.path(), arguments);
    }

    fn commit(&self) {
        commit_all(self.folder.path());
    }
}

fn compare(name: &str, found: &str) {
    let path = Path::new("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        expected,
        found,
        "{} is not what is printed now; UPDATE_SNAPSHOTS=1 writes it anew",
        path.display()
    );
}

#[test]
fn the_report_for_people() {
    let output = Package::new().run(&["check"]);
    compare("human.txt", &text(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_report_for_programs() {
    let output = Package::new().run(&["check", "--format", "json"]);
    compare("report.json", &text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"]["answer"], "not-yet");
    assert_eq!(report["findings"][0]["path"], "src/cache.rs");
}

#[test]
fn the_report_for_code_scanning() {
    let output = Package::new().run(&["check", "--format", "sarif"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["version"], "2.1.0");
    let rules = report["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .unwrap();
    for result in report["runs"][0]["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    // The pages of the rules are in it, and have a file of their own.
    let mut short = report;
    short["runs"][0]["tool"] = serde_json::Value::Null;
    compare(
        "report.sarif.json",
        &serde_json::to_string_pretty(&short).unwrap(),
    );
}

#[test]
fn the_threshold_decides_on_the_exit_code() {
    let package = Package::new();
    assert_eq!(
        package
            .run(&["check", "--fail-on", "deadlock"])
            .status
            .code(),
        Some(1)
    );
    assert_eq!(
        package
            .run(&["check", "--fail-on", "unsound"])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(package.run(&["check", "nowhere"]).status.code(), Some(2));
    assert_eq!(
        package
            .run(&["check", "--only", "no-such-rule"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(package.run(&["chekc"]).status.code(), Some(2));
}

#[test]
fn broken_source_is_reported_and_the_rest_is_checked() {
    let package = Package::new();
    package.append("src/lib.rs", "\nmod broken;\nmod missing;\nmod binary;\n");
    package.write("src/broken.rs", "fn ok() {}\nfn broken( {\n");
    fs::write(package.path("src/binary.rs"), [0xff, 0xfe, 0x00]).unwrap();
    let output = package.run(&["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let places: Vec<String> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| format!("{}:{}", error["path"].as_str().unwrap(), error["line"]))
        .collect();
    assert_eq!(
        places,
        ["src/broken.rs:2", "src/lib.rs:31", "src/binary.rs:0"]
    );
    assert!(!report["findings"].as_array().unwrap().is_empty());
}

#[test]
fn comments_allow_what_they_give_a_reason_for() {
    let package = Package::new();
    let found = |package: &Package| {
        let output = package.run(&["check", "--format", "json", "--only", "guard-across-python"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (
            report["findings"].as_array().unwrap().len(),
            report["allowed"].as_u64().unwrap(),
        )
    };
    assert_eq!(found(&package), (1, 0));
    let original = package.read("src/cache.rs");
    let with = |comment: &str| {
        original.replace(
            "        let made",
            &format!("        {comment}\n        let made"),
        )
    };
    package.write(
        "src/cache.rs",
        &with("// pyo3-sync: allow(guard-across-python) nobody else has the cache"),
    );
    assert_eq!(found(&package), (0, 1));
    package.write(
        "src/cache.rs",
        &with("// pyo3-sync: allow(guard-across-python)"),
    );
    assert_eq!(found(&package), (1, 0), "without a reason");
    package.write(
        "src/cache.rs",
        &with("// pyo3-sync: allow(lock-order) another rule"),
    );
    assert_eq!(found(&package), (1, 0), "another rule");
    package.write(
        "src/cache.rs",
        &format!("//! pyo3-sync: allow(guard-across-python) for the whole file\n{original}"),
    );
    assert_eq!(found(&package), (0, 1));
}

#[test]
fn the_manifest_configures() {
    let package = Package::new();
    let manifest = package.read("Cargo.toml");
    let with = |table: &str| {
        package.write(
            "Cargo.toml",
            &format!("{manifest}\n[package.metadata.pyo3-sync]\n{table}\n"),
        )
    };
    let rules = || {
        let output = package.run(&["check", "--format", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut rules: Vec<String> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["rule"].as_str().unwrap().to_owned())
            .collect();
        rules.sort();
        (rules.join(" "), output.status.code())
    };
    let all =
        "gil-declaration gil-once-cell guard-across-python pyclass-not-frozen untraversed-lock";
    assert_eq!(rules(), (all.to_owned(), Some(1)));
    with(r#"allow = ["guard-across-python"]"#);
    assert_eq!(rules().0, all.replace("guard-across-python ", ""));
    with(r#"enable = ["attached-lock"]"#);
    assert_eq!(rules().0, format!("attached-lock {all}"));
    with(r#"exclude = ["src/cache.rs"]"#);
    assert_eq!(
        rules().0,
        "gil-declaration gil-once-cell pyclass-not-frozen"
    );
    with(r#"fail-on = "unsound""#);
    assert_eq!(rules(), (all.to_owned(), Some(0)));
    with("fail-on = \"unsound\"\ndeny = [\"gil-once-cell\"]");
    assert_eq!(rules(), (all.to_owned(), Some(1)));
    with(r#"allow = ["no-such-rule"]"#);
    let output = package.run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors(&output).contains("there is no rule `no-such-rule`"),
        "{}",
        errors(&output)
    );
    with(r#"alow = ["static-mut"]"#);
    assert_eq!(
        package.run(&["check"]).status.code(),
        Some(2),
        "a misspelt key"
    );
}

#[test]
fn fix_shows_a_diff_and_writes_nothing_unless_told() {
    let package = Package::new();
    let before = package.read("src/lib.rs");
    let output = package.run(&["fix"]);
    compare("fix.txt", &text(&output));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(package.read("src/lib.rs"), before);
}

#[test]
fn fix_refuses_a_dirty_tree() {
    let package = Package::new();
    let before = package.read("src/lib.rs");
    let output = package.run(&["fix", "--apply"]);
    assert_eq!(output.status.code(), Some(2), "not in git");
    assert!(
        errors(&output).contains("--allow-no-vcs"),
        "{}",
        errors(&output)
    );
    package.commit();
    package.append("src/cache.rs", "// an afterthought\n");
    let output = package.run(&["fix", "--apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors(&output).contains("--allow-dirty"),
        "{}",
        errors(&output)
    );
    assert_eq!(package.read("src/lib.rs"), before);
    let output = package.run(&["fix", "--apply", "--allow-dirty"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_ne!(package.read("src/lib.rs"), before);
}

#[test]
fn what_fix_writes_is_found_no_more() {
    let package = Package::new();
    package.commit();
    let output = package.run(&["fix", "--apply"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let source = package.read("src/lib.rs");
    assert!(
        source.contains("use pyo3::{prelude::*, types::PyType};\nuse pyo3_sync::PyOnceLock;\n"),
        "{source}"
    );
    assert!(
        source.contains("static FRACTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();"),
        "{source}"
    );
    assert!(
        source.contains("#[pyclass(frozen)]\nstruct Price"),
        "{source}"
    );
    assert!(package.read("Cargo.toml").contains("pyo3-sync = \"0.1\""));
    let output = package.run(&[
        "check",
        "--only",
        "gil-once-cell",
        "--only",
        "pyclass-not-frozen",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    package.git(&["commit", "-q", "-a", "-m", "fixed"]);
    let output = package.run(&["fix", "--apply"]);
    assert_eq!(
        (text(&output).as_str(), output.status.code()),
        ("nothing to change\n", Some(0))
    );
}

#[test]
fn fix_changes_names_wherever_they_stand() {
    let package = Package::new();
    fs::create_dir_all(package.path("vendor/pyo3-sync")).unwrap();
    package.commit();
    package.write(
        "src/cache.rs",
        "use pyo3::sync::{GILOnceCell, GILProtected, MutexExt};\n\
         mod inner {\n    pub(crate) use pyo3::sync::GILOnceCell;\n}\n\
         // GILOnceCell in a comment stays.\n\
         static A: GILOnceCell<u8> = GILOnceCell::new();\n\
         static B: ::pyo3::sync::GILOnceCell<u8> = pyo3::sync::GILOnceCell::new();\n\
         static C: GILProtected<u8> = GILProtected::new(1);\n\
         thread_local! { static D: GILOnceCell<u8> = const { GILOnceCell::new() }; }\n\
         #[cfg_attr(feature = \"x\", pyo3::pyclass(name = \"Ä\"))]\npub struct Cache;\n",
    );
    let output = package.run(&[
        "fix",
        "--apply",
        "--allow-dirty",
        "--pyo3-sync-path",
        "vendor/pyo3-sync",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(
        package.read("src/cache.rs"),
        "use pyo3::sync::{MutexExt};\nuse pyo3_sync::{PyOnceLock, compat::GILProtected};\n\
         mod inner {\n    pub(crate) use pyo3_sync::PyOnceLock;\n}\n\
         // GILOnceCell in a comment stays.\n\
         static A: PyOnceLock<u8> = PyOnceLock::new();\n\
         static B: pyo3_sync::PyOnceLock<u8> = pyo3_sync::PyOnceLock::new();\n\
         static C: GILProtected<u8> = GILProtected::new(1);\n\
         thread_local! { static D: PyOnceLock<u8> = const { PyOnceLock::new() }; }\n\
         #[cfg_attr(feature = \"x\", pyo3::pyclass(frozen, name = \"Ä\"))]\npub struct Cache;\n",
    );
    assert!(
        package
            .read("Cargo.toml")
            .contains("pyo3-sync = { path = \"vendor/pyo3-sync\" }")
    );
}

#[test]
fn fix_leaves_paths_through_variables_of_macros_to_their_authors() {
    let package = Package::new();
    package.append(
        "src/cache.rs",
        "\n#[macro_export]\nmacro_rules! cell {\n    () => { $crate::pyo3::sync::GILOnceCell::new() };\n}\n",
    );
    let output = package.run(&["fix"]);
    assert!(
        text(&output).contains("left alone: src/cache.rs:22: `$crate::pyo3::sync::GILOnceCell`"),
        "{}",
        text(&output)
    );
    assert!(
        !text(&output).contains("+++ src/cache.rs"),
        "{}",
        text(&output)
    );
}

#[test]
fn fix_leaves_an_old_pyo3_alone() {
    let package = Package::new();
    package.write(
        "Cargo.toml",
        &package.read("Cargo.toml").replace("0.27", "0.25"),
    );
    let output = package.run(&["fix"]);
    assert!(
        text(&output).contains("left alone: shop: it uses PyO3 0.25.0"),
        "{}",
        text(&output)
    );
    assert!(!text(&output).contains("PyOnceLock"), "{}", text(&output));
}

#[test]
fn rules_are_explained() {
    let package = Package::new();
    let output = package.run(&["explain", "static-mut"]);
    assert!(text(&output).starts_with("# static-mut: "));
    assert!(text(&package.run(&["explain"])).contains("guard-across-python"));
    assert_eq!(
        package.run(&["explain", "no-such-rule"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_folder_without_a_manifest_is_one_crate() {
    let package = Package::new();
    fs::remove_file(package.path("Cargo.toml")).unwrap();
    let output = package.run(&["check", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"]["rules"]["guard-across-python"], 1);
    // Nobody knows which PyO3 that is.
    assert_eq!(
        report["verdict"]["rules"]["gil-declaration"],
        serde_json::Value::Null
    );
}

#[test]
fn a_manifest_that_cargo_does_not_take_is_read_all_the_same() {
    let package = Package::new();
    package.write(
        "Cargo.toml",
        &package
            .read("Cargo.toml")
            .replace("[workspace]", "[workspace]\nmembers = [\"missing\"]"),
    );
    let output = package.run(&["check", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["verdict"]["rules"]["guard-across-python"],
        1,
        "{}",
        errors(&output)
    );
    assert_eq!(report["pyo3"][0]["pyo3"], "0.27.0");
    assert!(
        report["skipped"][0]
            .as_str()
            .unwrap()
            .contains("read without cargo")
    );
}
