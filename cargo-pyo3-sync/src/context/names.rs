//! Name resolution: `Mutex` may be that of `std`, `parking_lot`, PyO3 or pyo3-sync.
//!
//! The name of a type consists of its crate and the last name of its path: `std::Mutex`,
//! `pyo3::Bound`, `pyo3_sync::PyMutex`, `crate::Parser`. The types that rules refer to are unique
//! within their crate under this scheme, except for `unsync`, `compat` and the nested
//! `tokio::sync`, which get names of their own.

use std::collections::{HashMap, HashSet};

use syn::{GenericArgument, PathArguments, Type, UseTree};

/// A type without the references around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ty {
    /// The name, such as `std::Mutex` or `crate::Parser`. Empty if the type is unknown.
    ///
    /// Types without a name are `*` (raw pointer), `()` (tuple), `[]` (slice or array) and `fn`.
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

    /// Returns the name without the crate.
    pub fn last(&self) -> &str {
        self.name.rsplit("::").next().unwrap_or(&self.name)
    }

    /// Returns the name of a type of the checked crate.
    pub fn local(&self) -> Option<&str> {
        self.name.strip_prefix("crate::")
    }

    /// Dereferences as often as possible: through `Arc`, `Box`, `Rc`, guards and lazy cells.
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

    /// Visits this type and all of its arguments.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Ty)) {
        visit(self);
        for argument in &self.arguments {
            argument.walk(visit);
        }
    }

    /// Returns `true` if this type or one of its arguments passes the test.
    pub fn mentions(&self, test: &mut dyn FnMut(&Ty) -> bool) -> bool {
        test(self)
            || self
                .arguments
                .iter()
                .any(|argument| argument.mentions(test))
    }
}

/// Formats the type as in source code.
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

/// The names that `use` imports into a module.
#[derive(Debug, Default, Clone)]
pub struct Imports {
    /// Maps each name to its path.
    names: HashMap<String, Vec<String>>,
    /// The paths of glob imports, such as `use std::sync::*`.
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

    /// Returns the full path of a written path, following `use`.
    pub fn expand(&self, written: &[String]) -> Vec<String> {
        let Some((first, rest)) = written.split_first() else {
            return Vec::new();
        };
        match self.names.get(first) {
            // Prevents endless expansion of `use crate::python::pyo3;` and the like.
            Some(full) if full.first() != Some(first) || full.len() > 1 => {
                let mut path = full.clone();
                // An import may start with the name of another import: `use std::sync; use
                // sync::Mutex`.
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

    /// Returns the path that `name` is imported from explicitly.
    pub fn origin(&self, name: &str) -> Option<&[String]> {
        self.names.get(name).map(Vec::as_slice)
    }
}

/// The types and modules of the checked crate.
///
/// `shop::Price` belongs to the crate if `shop` is a module of it. Otherwise `shop` is another
/// crate.
#[derive(Debug, Default)]
pub struct DeclaredNames {
    pub types: HashSet<String>,
    pub modules: HashSet<String>,
}

/// Returns the name of a type or function from its full path: its crate and its last name.
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
                // `use super::*` and preludes of the checked crate.
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

/// Names in the preludes of PyO3, and types that are usually imported with a glob.
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

/// Resolves a type by its names.
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

/// Resolves the path of a type, with its arguments.
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
        // Aliases of PyO3 and `std`.
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
