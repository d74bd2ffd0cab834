//! Fetches the sources of published extensions by name and version.
//!
//! pip fetches source distributions and cargo crates, each once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::environment;

/// The build backends of extensions in Rust, which pip calls for the metadata of a source
/// distribution.
const BACKENDS: [&str; 6] = [
    "pip>=23",
    "maturin>=1.9,<2",
    "setuptools>=78",
    "setuptools-rust>=1.11,<2",
    "wheel>=0.45",
    "cffi>=1.17",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    /// Crates.
    Rust,
    /// Source distributions.
    Python,
}

/// Returns the folder of a package in `parent`, fetching it if it does not exist.
pub fn fetch(
    registry: Registry,
    name: &str,
    version: &str,
    parent: &Path,
) -> anyhow::Result<PathBuf> {
    let place = parent.join(format!("{name}-{version}"));
    if !place.exists() {
        eprintln!("fetching {name} {version}");
        fs::create_dir_all(parent)?;
        // Renamed when it is complete.
        let temporary = tempfile::tempdir_in(parent)?;
        let sources = match registry {
            Registry::Python => fetch_sdist(name, version, temporary.path()),
            Registry::Rust => fetch_crate(name, version, temporary.path()),
        }
        .with_context(|| format!("cannot fetch {name} {version}"))?;
        fs::rename(sources, &place)?;
    }
    Ok(place)
}

fn fetch_sdist(package: &str, version: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let python = environment::with(&crate::machine()?, "backends", &BACKENDS)?;
    let tools = python.parent().context("python is in a folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [tools.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    )?;
    let (downloaded, unpacked) = (into.join("downloaded"), into.join("unpacked"));
    let shell = Shell::new()?;
    cmd!(
        shell,
        "{python} -m pip download --quiet --disable-pip-version-check"
    )
    .args(["--no-deps", "--no-binary", ":all:", "--no-build-isolation"])
    .arg("--dest")
    .arg(&downloaded)
    .arg(format!("{package}=={version}"))
    .env("PATH", path)
    .quiet()
    .run()?;
    // The name of the archive need not be spelled like that of the package.
    let archive = only_entry(&downloaded)?;
    cmd!(shell, "{python} -m tarfile -e {archive} {unpacked}")
        .quiet()
        .run()?;
    only_entry(&unpacked)
}

fn only_entry(folder: &Path) -> anyhow::Result<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    ensure!(
        entries.len() == 1,
        "there are {} files in {}",
        entries.len(),
        folder.display()
    );
    Ok(entries[0].path())
}

/// Fetches a crate by a package that depends on it. Copies it, because cargo's own copy must not
/// change.
fn fetch_crate(name: &str, version: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let manifest = format!(
        "[workspace]\n\
         [package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{name} = \"={version}\"\n"
    );
    fs::write(into.join("Cargo.toml"), manifest)?;
    fs::write(into.join("lib.rs"), "")?;
    let shell = Shell::new()?;
    shell.change_dir(into);
    let metadata = cmd!(shell, "cargo metadata --quiet --format-version 1")
        .quiet()
        .read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo lists packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == name && package["version"] == version)
        .context("cargo does not list it")?;
    let manifest = package["manifest_path"]
        .as_str()
        .context("it has a manifest")?;
    let sources = into.join("sources");
    copy(Path::new(manifest).with_file_name("").as_path(), &sources)?;
    Ok(sources)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), &place)?;
        }
    }
    Ok(())
}
