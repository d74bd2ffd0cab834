//! What a name means: `Mutex` may be that of `std`, of `parking_lot`, of PyO3 or ours.
//!
//! A type is called by the crate it comes from and its last name, whatever path was written: `std::Mutex`, `pyo3::Bound`,
//! `pyo3_sync::PyMutex`, `crate::Parser`. That is shorter than its path, and enough: none of the types that rules ask for share a name within
//! a crate, but `unsync`, `compat` and the nested `tokio::sync`, which keep a name of their own.

use std::collections::{HashMap, HashSet};

use syn::{GenericArgument, PathArguments, Type, UseTree};

/// A type, as far as it is known, without the references around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ty {
    /// `std::Mutex`, `crate::Parser`, `*` (raw pointer), `()` (tuple), `[]` (slice or array), `fn`, or empty: not known.
    pub name: String,
    pub arguments: Vec<Ty>,
}

impl Ty {
    pub fn unknown() -> Self {
        Ty::default()
    }

    pub fn named(name: &str) -> Self {
        Ty {
            name: name.to_owned(),
            arguments: Vec::new(),
        }
    }

    pub fn of(name: &str, argument: Ty) -> Self {
        Ty {
            name: name.to_owned(),
            arguments: vec![argument],
        }
    }

    pub fn is_unknown(&self) -> bool {
        self.name.is_empty()
    }

    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub fn argument(&self, index: usize) -> Ty {
        self.arguments.get(index).cloned().unwrap_or_default()
    }

    /// The name without the crate.
    pub fn last(&self) -> &str {
        self.name.rsplit("::").next().unwrap_or(&self.name)
    }

    /// The name of a type of this crate.
    pub fn local(&self) -> Option<&str> {
        self.name.strip_prefix("crate::")
    }

    /// What is found by dereferencing as often as it goes: through `Arc`, `Box`, `Rc`, guards, once-cells' results.
    pub fn peeled(&self) -> &Ty {
        let mut ty = self;
        while POINTERS.contains(&ty.name.as_str()) {
            match ty.arguments.first() {
                Some(inner) => ty = inner,
                None => break,
            }
        }
        ty
    }

    /// This type and everything in its arguments.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Ty)) {
        visit(self);
        for argument in &self.arguments {
            argument.walk(visit);
        }
    }

    /// Whether it, or something in its arguments, is so.
    pub fn mentions(&self, test: &mut dyn FnMut(&Ty) -> bool) -> bool {
        test(self)
            || self
                .arguments
                .iter()
                .any(|argument| argument.mentions(test))
    }
}

/// As an author would write it.
impl std::fmt::Display for Ty {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |formatter: &mut std::fmt::Formatter<'_>| {
            for (index, argument) in self.arguments.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(formatter, "{comma}{argument}")?;
            }
            Ok(())
        };
        match self.name.as_str() {
            "" => write!(formatter, "_"),
            "()" => {
                write!(formatter, "(")?;
                list(formatter)?;
                write!(formatter, ")")
            }
            "[]" => {
                write!(formatter, "[")?;
                list(formatter)?;
                write!(formatter, "]")
            }
            "*" => write!(formatter, "*mut {}", self.argument(0)),
            _ if self.arguments.is_empty() => write!(formatter, "{}", self.last()),
            _ => {
                write!(formatter, "{}<", self.last())?;
                list(formatter)?;
                write!(formatter, ">")
            }
        }
    }
}

const POINTERS: [&str; 22] = [
    "std::Arc",
    "std::Box",
    "std::Rc",
    "std::Cow",
    "std::Pin",
    "std::MutexGuard",
    "std::RwLockReadGuard",
    "std::RwLockWriteGuard",
    "std::MappedMutexGuard",
    "std::Ref",
    "std::RefMut",
    "std::LazyLock",
    "std::LazyCell",
    "parking_lot::MutexGuard",
    "parking_lot::RwLockReadGuard",
    "parking_lot::RwLockWriteGuard",
    "parking_lot::MappedMutexGuard",
    "once_cell::Lazy",
    "lazy_static",
    "pyo3::PyRef",
    "pyo3::PyRefMut",
    "crossbeam_utils::CachePadded",
];

/// The names that `use` brings into one module.
#[derive(Debug, Default, Clone)]
pub struct Imports {
    /// What each name stands for, as a path.
    names: HashMap<String, Vec<String>>,
    /// `use std::sync::*`.
    globs: Vec<Vec<String>>,
}

impl Imports {
    pub fn add(&mut self, tree: &UseTree) {
        self.add_under(&mut Vec::new(), tree);
    }

    fn add_under(&mut self, path: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.add_under(path, &inner.tree);
                path.pop();
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let mut full = path.clone();
                let visible = if name == "self" {
                    path.last().cloned().unwrap_or_default()
                } else {
                    full.push(name.clone());
                    name
                };
                self.names.insert(visible, full);
            }
            UseTree::Rename(rename) => {
                let mut full = path.clone();
                if rename.ident != "self" {
                    full.push(rename.ident.to_string());
                }
                self.names.insert(rename.rename.to_string(), full);
            }
            UseTree::Glob(_) => self.globs.push(path.clone()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_under(path, tree);
                }
            }
        }
    }

    /// The full path of what was written, following `use`.
    pub fn expand(&self, written: &[String]) -> Vec<String> {
        let Some((first, rest)) = written.split_first() else {
            return Vec::new();
        };
        match self.names.get(first) {
            // `use crate::python::pyo3;` and the like would go round in circles.
            Some(full) if full.first() != Some(first) || full.len() > 1 => {
                let mut path = full.clone();
                // What the import starts with may be a name of another import: `use std::sync; use sync::Mutex`.
                if let Some(again) = path.first().filter(|start| *start != first)
                    && let Some(prefix) = self.names.get(again).filter(|prefix| prefix.len() > 1)
                {
                    path.splice(..1, prefix.iter().cloned());
                }
                path.extend(rest.iter().cloned());
                path
            }
            _ => written.to_vec(),
        }
    }

    pub fn has_glob(&self, root: &str) -> bool {
        self.globs
            .iter()
            .any(|glob| glob.first().is_some_and(|first| first == root))
    }

    /// Whether `name` comes in by itself, and from where.
    pub fn origin(&self, name: &str) -> Option<&[String]> {
        self.names.get(name).map(Vec::as_slice)
    }
}

/// The names of the crate's own types and modules: `shop::Price` is one of the crate's if `shop` is a module of it, and not if it is another
/// crate with a type that is called the same.
#[derive(Debug, Default)]
pub struct DeclaredNames {
    pub types: HashSet<String>,
    pub modules: HashSet<String>,
}

/// The name of a type or function whose full path is known: the crate it comes from, and its last name.
pub fn canonical(path: &[String], imports: &Imports, declared: &DeclaredNames) -> String {
    let Some(last) = path.last() else {
        return String::new();
    };
    let root = match path[0].as_str() {
        "core" | "alloc" | "std" if path.len() > 1 => "std",
        "crate" | "self" | "super" if path.len() > 1 => "crate",
        "once_cell" if path.iter().any(|part| part == "unsync") => "once_cell_unsync",
        "pyo3_sync" if path.iter().any(|part| part == "compat") => "pyo3_sync::compat",
        "pyo3" if path.get(1).is_some_and(|part| part == "ffi") && path.len() > 2 => "pyo3::ffi",
        "pyo3_ffi" => "pyo3::ffi",
        other if path.len() > 1 => {
            let within = declared.modules.contains(other) || declared.types.contains(other);
            if within && declared.types.contains(last) && !KNOWN_CRATES.contains(&other) {
                "crate"
            } else {
                other
            }
        }
        name => {
            if declared.types.contains(name) {
                "crate"
            } else if IN_PRELUDE.contains(&name) {
                "std"
            } else if imports.has_glob("pyo3") && is_of_pyo3(name) {
                "pyo3"
            } else if imports.has_glob("std") && OF_STD_SYNC.contains(&name) {
                "std"
            } else if imports.has_glob("parking_lot") && OF_STD_SYNC.contains(&name) {
                "parking_lot"
            } else if imports.has_glob("pyo3_sync") && name.starts_with("Py") {
                "pyo3_sync"
            } else if is_of_pyo3(name) {
                // `use super::*` and preludes of the crate's own.
                "pyo3"
            } else if OF_STD_SYNC.contains(&name)
                && (imports.has_glob("super") || imports.has_glob("crate"))
            {
                "std"
            } else {
                return name.to_owned();
            }
        }
    };
    format!("{root}::{last}")
}

const KNOWN_CRATES: [&str; 12] = [
    "pyo3",
    "pyo3_ffi",
    "pyo3_sync",
    "parking_lot",
    "once_cell",
    "tokio",
    "crossbeam",
    "crossbeam_channel",
    "flume",
    "futures",
    "rayon",
    "lazy_static",
];

const IN_PRELUDE: [&str; 8] = [
    "Vec", "Option", "Result", "Box", "String", "Some", "Ok", "Err",
];

const OF_STD_SYNC: [&str; 16] = [
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "Once",
    "OnceLock",
    "LazyLock",
    "Arc",
    "MutexGuard",
    "RwLockReadGuard",
    "RwLockWriteGuard",
    "HashMap",
    "BTreeMap",
    "VecDeque",
    "HashSet",
    "BTreeSet",
];

fn is_of_pyo3(name: &str) -> bool {
    OF_PYO3.contains(&name)
}

/// What the preludes of PyO3 bring in, and the types that are mostly imported with a glob.
const OF_PYO3: [&str; 48] = [
    "Py",
    "Bound",
    "Borrowed",
    "Python",
    "PyAny",
    "PyErr",
    "PyResult",
    "PyObject",
    "PyRef",
    "PyRefMut",
    "PyModule",
    "PyDict",
    "PyList",
    "PyTuple",
    "PySet",
    "PyFrozenSet",
    "PyString",
    "PyBytes",
    "PyByteArray",
    "PyType",
    "PyIterator",
    "PyMapping",
    "PySequence",
    "PyInt",
    "PyLong",
    "PyFloat",
    "PyBool",
    "PyCFunction",
    "PyFunction",
    "PyDateTime",
    "PyDate",
    "PyTime",
    "PyDelta",
    "PyTzInfo",
    "PyCapsule",
    "PySlice",
    "PyTraceback",
    "PyNone",
    "PyComplex",
    "PyVisit",
    "PyTraverseError",
    "GILOnceCell",
    "GILProtected",
    "PyOnceLock",
    "PyBackedStr",
    "PyBackedBytes",
    "PyWeakrefReference",
    "PyCell",
];

/// The type that was written, by its names.
pub fn resolve_type(
    ty: &Type,
    imports: &Imports,
    self_type: Option<&str>,
    declared: &DeclaredNames,
) -> Ty {
    match ty {
        Type::Reference(reference) => resolve_type(&reference.elem, imports, self_type, declared),
        Type::Paren(inner) => resolve_type(&inner.elem, imports, self_type, declared),
        Type::Group(inner) => resolve_type(&inner.elem, imports, self_type, declared),
        Type::Ptr(pointer) => Ty::of(
            "*",
            resolve_type(&pointer.elem, imports, self_type, declared),
        ),
        Type::Slice(slice) => Ty::of(
            "[]",
            resolve_type(&slice.elem, imports, self_type, declared),
        ),
        Type::Array(array) => Ty::of(
            "[]",
            resolve_type(&array.elem, imports, self_type, declared),
        ),
        Type::Tuple(tuple) => Ty {
            name: "()".to_owned(),
            arguments: tuple
                .elems
                .iter()
                .map(|ty| resolve_type(ty, imports, self_type, declared))
                .collect(),
        },
        Type::BareFn(_) => Ty::named("fn"),
        Type::TraitObject(object) => bounds(&object.bounds, imports, declared),
        Type::ImplTrait(object) => bounds(&object.bounds, imports, declared),
        Type::Path(path) if path.qself.is_none() => {
            resolve_path(&path.path, imports, self_type, declared)
        }
        _ => Ty::unknown(),
    }
}

fn bounds(
    bounds: &syn::punctuated::Punctuated<syn::TypeParamBound, syn::Token![+]>,
    imports: &Imports,
    declared: &DeclaredNames,
) -> Ty {
    let first = bounds.iter().find_map(|bound| match bound {
        syn::TypeParamBound::Trait(bound) => Some(&bound.path),
        _ => None,
    });
    let argument = first.map_or(Ty::unknown(), |path| {
        resolve_path(path, imports, None, declared)
    });
    Ty::of("dyn", argument)
}

/// The type that a path stands for, with its arguments.
pub fn resolve_path(
    path: &syn::Path,
    imports: &Imports,
    self_type: Option<&str>,
    declared: &DeclaredNames,
) -> Ty {
    let written: Vec<String> = path
        .segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect();
    let arguments: Vec<Ty> = path.segments.last().map_or(Vec::new(), |segment| {
        let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
            return Vec::new();
        };
        arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(resolve_type(ty, imports, self_type, declared)),
                _ => None,
            })
            .collect()
    });
    if written.len() == 1 && written[0] == "Self" {
        return self_type.map_or(Ty::unknown(), |name| Ty::named(&format!("crate::{name}")));
    }
    let name = canonical(&imports.expand(&written), imports, declared);
    match name.as_str() {
        // Aliases that PyO3 and `std` have for the same thing.
        "pyo3::PyObject" => Ty::of("pyo3::Py", Ty::named("pyo3::PyAny")),
        "pyo3::PyResult" => Ty {
            name: "std::Result".to_owned(),
            arguments,
        },
        "pyo3::Borrowed" => Ty {
            name: "pyo3::Bound".to_owned(),
            arguments,
        },
        _ => Ty { name, arguments },
    }
}
