//! Whether the table in `README.md` tells of every public type, trait and bound of the crate, and of every case.
//!
//! What is public is read from the sources. There, `pub` means public (the lint `unreachable_pub` sees to it), but for what is in a module called
//! `sealed`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    FnArg, ImplItem, Item, Signature, Type, Visibility, WherePredicate, punctuated::Punctuated,
    visit::Visit,
};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// What may be asked of a type: those that are not here bind closures to what they are called with, or are needed by the code that has them, as
/// `T: Default` for a `Default`, and the compiler sees to those.
const BOUNDS: [&str; 5] = [
    "Send",
    "Sync",
    "PyTypeCheck",
    "ProtectedByTheGil",
    "ModuleData",
];

/// The rows of the table: what they are about, the words in the middle, and the names in the last column.
fn table() -> Vec<(String, String, Vec<String>)> {
    let text = fs::read_to_string(Path::new(PACKAGE).join("README.md")).expect("there is a table");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let columns: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [subject, bound, cases] = columns[..] else {
            panic!("three columns: {row}");
        };
        let names = cases.split('`').skip(1).step_by(2).map(str::to_owned);
        (subject.replace('`', ""), bound.to_owned(), names.collect())
    });
    rows.collect()
}

/// What is public in the sources.
#[derive(Default)]
struct Public {
    types: BTreeSet<String>,
    traits: BTreeSet<String>,
    /// Methods that are unsafe, ask something of the type, or want a place that is static: by the name of the type.
    methods: BTreeMap<String, BTreeSet<String>>,
}

impl Public {
    fn of_the_crate() -> Self {
        let mut public = Public::default();
        let mut folders = vec![Path::new(PACKAGE).join("../../src")];
        let mut files = Vec::<PathBuf>::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder of the crate") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        for file in files {
            let text = fs::read_to_string(&file).expect("a file of the crate");
            let file = syn::parse_file(&text).expect("Rust");
            public.visit_file(&file);
        }
        public
    }

    fn implementation(&mut self, implementation: &syn::ItemImpl) {
        let Type::Path(path) = &*implementation.self_ty else {
            return;
        };
        let name = path.path.segments.last().expect("a name").ident.to_string();
        let of_all = asks(&implementation.generics);
        for item in &implementation.items {
            let ImplItem::Fn(method) = item else { continue };
            if !matches!(method.vis, Visibility::Public(_)) {
                continue;
            }
            let signature = &method.sig;
            // A state's type says once what it must be.
            let of_type = of_all && !name.starts_with("State") && name != "ModuleState";
            if of_type
                || asks(&signature.generics)
                || signature.unsafety.is_some()
                || is_static(signature)
            {
                let methods = self.methods.entry(name.clone()).or_default();
                methods.insert(signature.ident.to_string());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Public {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Struct(item) if is_public(&item.vis) => {
                self.types.insert(item.ident.to_string());
            }
            Item::Enum(item) if is_public(&item.vis) => {
                self.types.insert(item.ident.to_string());
            }
            Item::Union(item) if is_public(&item.vis) => {
                self.types.insert(item.ident.to_string());
            }
            Item::Trait(item) if is_public(&item.vis) => {
                self.traits.insert(item.ident.to_string());
            }
            Item::Impl(item) => self.implementation(item),
            Item::Mod(module) if module.ident == "sealed" || module.ident == "tests" => {}
            other => syn::visit::visit_item(self, other),
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_static(signature: &Signature) -> bool {
    let Some(FnArg::Receiver(receiver)) = signature.inputs.first() else {
        return false;
    };
    let lifetime = receiver.lifetime();
    lifetime.is_some_and(|lifetime| lifetime.ident == "static")
}

/// Whether one of [`BOUNDS`] is asked for.
fn asks(generics: &syn::Generics) -> bool {
    let inline = generics.type_params().map(|parameter| &parameter.bounds);
    let predicates = generics
        .where_clause
        .iter()
        .flat_map(|clause| &clause.predicates);
    let later = predicates.filter_map(|predicate| match predicate {
        WherePredicate::Type(predicate) => Some(&predicate.bounds),
        _ => None,
    });
    inline.chain(later).any(is_one_of_ours)
}

fn is_one_of_ours(bounds: &Punctuated<syn::TypeParamBound, syn::Token![+]>) -> bool {
    bounds.iter().any(|bound| match bound {
        syn::TypeParamBound::Trait(bound) => {
            let name = &bound.path.segments.last().expect("a name").ident;
            BOUNDS.iter().any(|bound| name == bound)
        }
        _ => false,
    })
}

#[test]
fn every_type_and_trait_has_a_row() {
    let public = Public::of_the_crate();
    assert!(
        public.types.len() > 25 && public.traits.len() > 8,
        "the sources were not understood"
    );
    let subjects: BTreeSet<_> = table().into_iter().map(|(subject, ..)| subject).collect();
    let missing: Vec<_> = public
        .types
        .union(&public.traits)
        .filter(|name| !subjects.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "without a row in README.md: {missing:?}"
    );
}

#[test]
fn every_type_is_in_the_table_of_auto_traits() {
    let path = Path::new(PACKAGE).join("../auto_traits.rs");
    let text = fs::read_to_string(path).expect("there is a table");
    let (_, table) = text.split_once("\ntable! {").expect("the table");
    let words: BTreeSet<_> = table
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    let public = Public::of_the_crate();
    let missing: Vec<_> = public
        .types
        .iter()
        .filter(|name| !words.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "without a row in tests/auto_traits.rs: {missing:?}"
    );
}

#[test]
fn every_bound_of_a_method_has_a_row() {
    let rows = table();
    let mut missing = Vec::new();
    for (name, methods) in Public::of_the_crate().methods {
        for method in methods {
            let word = format!("`{method}`");
            let is_told = rows.iter().any(|(subject, bound, cases)| {
                *subject == name && bound.contains(&word) && !cases.is_empty()
            });
            if !is_told {
                missing.push(format!("{name}::{method}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "without a row in README.md: {missing:?}"
    );
}

#[test]
fn every_case_has_a_row_and_every_row_its_cases() {
    let mut cases: BTreeSet<_> = fs::read_dir(Path::new(PACKAGE).join("cases"))
        .expect("the cases")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let known = cases.clone();
    for (subject, bound, names) in table() {
        assert!(
            !names.is_empty(),
            "nothing holds what is said of {subject}: {bound}"
        );
        for name in names {
            let is_a_file = name.ends_with(".rs");
            assert!(
                is_a_file || known.contains(&name),
                "{subject}: there is no case {name}"
            );
            cases.remove(&name);
        }
    }
    assert!(cases.is_empty(), "without a row in README.md: {cases:?}");
}
