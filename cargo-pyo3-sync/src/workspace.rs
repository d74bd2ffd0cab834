//! Discovery of source files, with cargo if there is a Cargo.toml, and by directory walk otherwise.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{CrateType, MetadataCommand, TargetKind};
use semver::{Version, VersionReq};

use crate::{
    config::Config,
    context::index::is_for_tests,
    source::{SourceError, SourceFile},
};

/// A library target or directory, with all of its files.
pub struct Crate {
    pub name: String,
    /// The directory that paths in the configuration are relative to.
    pub root: PathBuf,
    pub manifest: Option<PathBuf>,
    pub files: Vec<SourceFile>,
    /// The module path of each file.
    pub module_paths: Vec<Vec<String>>,
    pub errors: Vec<SourceError>,
    /// The locked version of PyO3, or the lowest required one.
    pub pyo3: Option<Version>,
    pub config: Config,
    pub has_pyo3_sync: bool,
    /// `true` if interpreters load the crate: it is a `cdylib`, or its type is unknown.
    pub is_extension: bool,
}

#[derive(Default)]
pub struct Project {
    pub crates: Vec<Crate>,
    /// Notes on skipped packages, and on manifests that were read without cargo.
    pub skipped: Vec<String>,
}

/// Finds and parses all sources under `path`.
pub fn load(path: &Path) -> Result<Project> {
    if !path.exists() {
        bail!("there is no {}", path.display());
    }
    if path.is_file() && path.file_name().is_some_and(|name| name == "Cargo.toml") {
        return load_manifest(path);
    }
    if path.is_file() {
        let mut loader = Loader::default();
        loader.tree(path, true, Vec::new());
        return Ok(Project {
            crates: vec![loader.bare(path)],
            skipped: Vec::new(),
        });
    }
    let manifest = path.join("Cargo.toml");
    if manifest.is_file() {
        return load_manifest(&manifest);
    }
    let nested = nested_manifests(path);
    if nested.is_empty() {
        return Ok(Project {
            crates: vec![load_folder(path, path)],
            skipped: Vec::new(),
        });
    }
    let mut project = Project::default();
    for manifest in nested {
        let loaded = load_manifest(&manifest)?;
        for found in loaded.crates {
            if !project
                .crates
                .iter()
                .any(|known| known.name == found.name && known.root == found.root)
            {
                project.crates.push(found);
            }
        }
        project.skipped.extend(loaded.skipped);
    }
    Ok(project)
}

/// Returns the Cargo.toml files below a directory without one, as in Python source distributions.
fn nested_manifests(path: &Path) -> Vec<PathBuf> {
    let walk = ignore::WalkBuilder::new(path)
        .max_depth(Some(4))
        .sort_by_file_path(Path::cmp)
        .build();
    let manifests: Vec<PathBuf> = walk
        .filter_map(Result::ok)
        .map(ignore::DirEntry::into_path)
        .filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"))
        .collect();
    // A manifest below another one is a member of its workspace.
    let is_member = |manifest: &PathBuf| {
        manifests.iter().any(|other| {
            other != manifest
                && manifest
                    .parent()
                    .zip(other.parent())
                    .is_some_and(|(inner, outer)| inner.starts_with(outer))
        })
    };
    manifests
        .iter()
        .filter(|manifest| !is_member(manifest))
        .cloned()
        .collect()
}

fn load_manifest(manifest: &Path) -> Result<Project> {
    match MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
    {
        Ok(metadata) => load_workspace(manifest, &metadata),
        // Cargo rejects manifests that it cannot build, for example with a missing member or a
        // newer format. The source is still readable.
        Err(error) => load_without_cargo(manifest, &error.to_string()),
    }
}

fn load_workspace(manifest: &Path, metadata: &cargo_metadata::Metadata) -> Result<Project> {
    let mut project = Project::default();
    let wanted = manifest
        .canonicalize()
        .unwrap_or_else(|_| manifest.to_owned());
    let is_the_one = |package: &cargo_metadata::Package| {
        package
            .manifest_path
            .as_std_path()
            .canonicalize()
            .is_ok_and(|path| path == wanted)
    };
    let root = metadata.workspace_root.as_std_path();
    let is_root = wanted.parent() == root.canonicalize().ok().as_deref();
    let for_all = Config::from_metadata(&metadata.workspace_metadata)?;
    for package in metadata.workspace_packages() {
        if !is_root && !is_the_one(package) {
            continue;
        }
        let requirement = package.dependencies.iter().find(|dependency| {
            matches!(dependency.name.as_str(), "pyo3" | "pyo3-ffi")
                && dependency.kind == cargo_metadata::DependencyKind::Normal
        });
        let Some(requirement) = requirement else {
            project
                .skipped
                .push(format!("{}: does not depend on pyo3", package.name));
            continue;
        };
        let folder = package
            .manifest_path
            .parent()
            .map_or_else(|| root.to_owned(), |path| path.as_std_path().to_owned());
        let config = match Config::from_metadata(&package.metadata)? {
            Some(config) => config,
            None => for_all.clone().unwrap_or_default(),
        };
        let has_pyo3_sync = package.dependencies.iter().any(|dependency| {
            dependency.name == "pyo3-sync"
                && dependency.kind == cargo_metadata::DependencyKind::Normal
        });
        for target in &package.targets {
            let library = target.kind.iter().any(|kind| {
                matches!(
                    kind,
                    TargetKind::Lib
                        | TargetKind::CDyLib
                        | TargetKind::RLib
                        | TargetKind::DyLib
                        | TargetKind::StaticLib
                        | TargetKind::Bin
                )
            });
            let extension = target.kind.contains(&TargetKind::Example)
                && target.crate_types.contains(&CrateType::CDyLib);
            if !library && !extension {
                continue;
            }
            let mut loader = Loader {
                excluded: excluded(&folder, &config),
                ..Loader::default()
            };
            loader.tree(&relative(target.src_path.as_std_path()), true, Vec::new());
            project.crates.push(Crate {
                name: target.name.clone(),
                root: folder.clone(),
                manifest: Some(relative(package.manifest_path.as_std_path())),
                pyo3: locked(&[root, &folder], &requirement.req),
                config: config.clone(),
                has_pyo3_sync,
                is_extension: target.crate_types.contains(&CrateType::CDyLib),
                ..loader.finish()
            });
        }
    }
    Ok(project)
}

/// Reads a manifest that cargo rejects.
fn load_without_cargo(manifest: &Path, why: &str) -> Result<Project> {
    let text = std::fs::read_to_string(manifest)
        .with_context(|| format!("reading {}", manifest.display()))?;
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => bail!("{}: {error}", manifest.display()),
    };
    let folder = manifest.parent().unwrap_or(Path::new(".")).to_owned();
    let mut project = Project::default();
    let first_line = why
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    project.skipped.push(format!(
        "{}: read without cargo ({first_line})",
        manifest.display()
    ));
    if let Some(members) = table
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(toml::Value::as_array)
    {
        for member in members.iter().filter_map(toml::Value::as_str) {
            let pattern = folder.join(member);
            let folders = match member.strip_suffix("/*") {
                Some(parent) => std::fs::read_dir(folder.join(parent))
                    .map(|entries| {
                        entries
                            .filter_map(Result::ok)
                            .map(|entry| entry.path())
                            .collect()
                    })
                    .unwrap_or_default(),
                None => vec![pattern],
            };
            for inner in folders {
                let manifest_of_member = inner.join("Cargo.toml");
                if manifest_of_member.is_file() && manifest_of_member != manifest {
                    project
                        .crates
                        .extend(load_without_cargo(&manifest_of_member, why)?.crates);
                }
            }
        }
    }
    let Some(package) = table.get("package") else {
        return Ok(project);
    };
    let Some(dependency) = dependency(&table, "pyo3").or_else(|| dependency(&table, "pyo3-ffi"))
    else {
        return Ok(project);
    };
    let requirement = dependency
        .as_str()
        .or_else(|| dependency.get("version").and_then(toml::Value::as_str))
        .and_then(|text| VersionReq::parse(text).ok())
        .unwrap_or(VersionReq::STAR);
    let metadata = package
        .get("metadata")
        .map(serde_json::to_value)
        .transpose()?
        .unwrap_or_default();
    let config = Config::from_metadata(&metadata)?.unwrap_or_default();
    let library = table
        .get("lib")
        .and_then(|lib| lib.get("path"))
        .and_then(toml::Value::as_str);
    let candidates = [library.unwrap_or("src/lib.rs"), "src/main.rs"];
    let Some(root_file) = candidates
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
    else {
        return Ok(project);
    };
    let mut loader = Loader {
        excluded: excluded(&folder, &config),
        ..Loader::default()
    };
    loader.tree(&root_file, true, Vec::new());
    project.crates.push(Crate {
        name: package
            .get("name")
            .and_then(toml::Value::as_str)
            .unwrap_or("?")
            .to_owned(),
        root: folder.clone(),
        manifest: Some(manifest.to_owned()),
        pyo3: locked(&[&folder], &requirement),
        config,
        has_pyo3_sync: self::dependency(&table, "pyo3-sync").is_some(),
        ..loader.finish()
    });
    Ok(project)
}

fn dependency<'t>(table: &'t toml::Table, name: &str) -> Option<&'t toml::Value> {
    let direct = table
        .get("dependencies")
        .and_then(|dependencies| dependencies.get(name));
    let of_targets = || {
        let targets = table.get("target")?.as_table()?;
        targets
            .values()
            .find_map(|target| target.get("dependencies")?.get(name))
    };
    direct.or_else(of_targets)
}

fn excluded(folder: &Path, config: &Config) -> Vec<PathBuf> {
    config
        .exclude
        .iter()
        .map(|path| folder.join(path))
        .map(|path| path.canonicalize().unwrap_or(path))
        .collect()
}

/// Loads all `.rs` files of a directory as one crate.
fn load_folder(path: &Path, root: &Path) -> Crate {
    let mut loader = Loader::default();
    let walk = ignore::WalkBuilder::new(path)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0
                || !matches!(name.as_ref(), "target" | "tests" | "benches" | "build.rs")
        })
        .build();
    for entry in walk.filter_map(Result::ok) {
        let file = entry.path();
        if file.extension().is_some_and(|extension| extension == "rs") && file.is_file() {
            let inside = file.strip_prefix(path).unwrap_or(file).with_extension("");
            let mut module: Vec<String> = inside
                .components()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect();
            if module
                .last()
                .is_some_and(|last| last == "mod" || last == "lib" || last == "main")
            {
                module.pop();
            }
            loader.file(file, module);
        }
    }
    loader.bare(root)
}

#[derive(Default)]
struct Loader {
    files: Vec<SourceFile>,
    module_paths: Vec<Vec<String>>,
    errors: Vec<SourceError>,
    seen: HashSet<PathBuf>,
    excluded: Vec<PathBuf>,
}

impl Loader {
    fn file(&mut self, path: &Path, module: Vec<String>) -> Option<usize> {
        let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.seen.insert(full.clone())
            || self
                .excluded
                .iter()
                .any(|excluded| full.starts_with(excluded))
        {
            return None;
        }
        match SourceFile::read(path) {
            Ok(file) => {
                self.files.push(file);
                self.module_paths.push(module);
                Some(self.files.len() - 1)
            }
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    /// Loads a file and the modules that it declares.
    fn tree(&mut self, path: &Path, is_root: bool, module: Vec<String>) {
        let Some(id) = self.file(path, module.clone()) else {
            return;
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let inner = if is_root || stem == "mod" {
            folder.clone()
        } else {
            folder.join(&stem)
        };
        let mut declared = Vec::new();
        modules_in(
            &self.files[id].tree.items,
            &folder,
            &inner,
            &module,
            &mut declared,
        );
        for child in declared {
            match child
                .candidates
                .iter()
                .find(|candidate| candidate.is_file())
            {
                Some(file) => self.tree(&file.clone(), child.like_root, child.module),
                None if child.conditional => {}
                None => {
                    let file = &self.files[id];
                    let (line, column) = file.position(file.range(child.span).start);
                    self.errors.push(SourceError {
                        path: path.to_owned(),
                        line,
                        column,
                        message: format!(
                            "the file of module `{}` is not there",
                            child.module.last().map(String::as_str).unwrap_or_default()
                        ),
                    });
                }
            }
        }
    }

    fn finish(self) -> Crate {
        Crate {
            name: String::new(),
            root: PathBuf::new(),
            manifest: None,
            files: self.files,
            module_paths: self.module_paths,
            errors: self.errors,
            pyo3: None,
            config: Config::default(),
            has_pyo3_sync: false,
            is_extension: true,
        }
    }

    fn bare(self, path: &Path) -> Crate {
        let name = path.canonicalize().ok().and_then(|path| {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        });
        Crate {
            name: name.unwrap_or_default(),
            root: path.to_owned(),
            ..self.finish()
        }
    }
}

/// A `mod name;` declaration.
struct Declared {
    candidates: Vec<PathBuf>,
    module: Vec<String>,
    /// `true` for `#[path]` modules, whose submodules are in the same directory.
    like_root: bool,
    /// `true` if the module has a `cfg` and may be missing.
    conditional: bool,
    span: proc_macro2::Span,
}

fn modules_in(
    items: &[syn::Item],
    folder: &Path,
    inner: &Path,
    module: &[String],
    declared: &mut Vec<Declared>,
) {
    for item in items {
        let syn::Item::Mod(item) = item else { continue };
        if is_for_tests(&item.attrs) {
            continue;
        }
        let name = item.ident.to_string();
        let name = name.trim_start_matches("r#");
        let mut path = module.to_vec();
        path.push(name.to_owned());
        if let Some((_, items)) = &item.content {
            modules_in(items, folder, &inner.join(name), &path, declared);
            continue;
        }
        let named = item
            .attrs
            .iter()
            .find_map(|attribute| match &attribute.meta {
                syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                    syn::Expr::Lit(syn::ExprLit {
                        lit: syn::Lit::Str(text),
                        ..
                    }) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            });
        declared.push(Declared {
            candidates: match &named {
                Some(named) => vec![folder.join(named), inner.join(named)],
                None => vec![
                    inner.join(format!("{name}.rs")),
                    inner.join(name).join("mod.rs"),
                ],
            },
            module: path,
            like_root: named.is_some(),
            conditional: item.attrs.iter().any(|attribute| {
                attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr")
            }),
            span: item.ident.span(),
        });
    }
}

/// Returns the path relative to the current directory, if it is below it.
fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .map_or_else(|_| path.to_owned(), Path::to_owned)
}

/// Returns the version of PyO3 in Cargo.lock that satisfies `requirement`, or the lowest that does.
fn locked(folders: &[&Path], requirement: &VersionReq) -> Option<Version> {
    let versions = folders.iter().find_map(|folder| {
        let text = std::fs::read_to_string(folder.join("Cargo.lock")).ok()?;
        let table: toml::Table = text.parse().ok()?;
        let packages = table.get("package")?.as_array()?;
        let versions: Vec<Version> = packages
            .iter()
            .filter(|package| {
                package
                    .get("name")
                    .and_then(toml::Value::as_str)
                    .is_some_and(|name| name == "pyo3" || name == "pyo3-ffi")
            })
            .filter_map(|package| Version::parse(package.get("version")?.as_str()?).ok())
            .collect();
        (!versions.is_empty()).then_some(versions)
    });
    let locked = versions.and_then(|versions| {
        versions
            .into_iter()
            .filter(|version| requirement.matches(version))
            .max()
    });
    locked.or_else(|| {
        let first = requirement.comparators.first()?;
        Some(Version::new(
            first.major,
            first.minor.unwrap_or(0),
            first.patch.unwrap_or(0),
        ))
    })
}
