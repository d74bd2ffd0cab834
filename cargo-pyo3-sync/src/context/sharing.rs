//! Types shared between threads, and classes borrowed mutably.

use std::collections::HashSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::{
    behaviour::Body,
    index::{Function, FunctionKind, Index, TypeItem, is_for_tests},
    names::Ty,
};
use crate::source::SourceFile;

/// Returns the types whose values several threads can access concurrently.
///
/// These are reachable, through fields, from a static, an `Arc`, or a class with a method that
/// takes `&self`. Values that are only local, or only reachable through `&mut self`, are not
/// shared.
pub(super) fn shared_types(index: &Index<'_>) -> HashSet<String> {
    let mut reached = Reached {
        index,
        types: HashSet::new(),
        queue: Vec::new(),
    };
    let mut classes = HashSet::new();
    for item in &index.statics {
        reached.all_in(&item.ty);
    }
    for item in &index.types {
        match &item.class {
            Some(class) if class.frozen => reached.add(&item.name),
            // Of a class that is borrowed mutably, only the fields that `&self` methods access are
            // shared.
            Some(_) => {
                let touched = touched_by_readers(index, item);
                for field in item
                    .fields
                    .iter()
                    .filter(|field| touched.contains(&field.name) || item.is_enum)
                {
                    reached.all_in(&field.ty);
                }
                if !touched.is_empty() {
                    classes.insert(item.name.clone());
                }
            }
            None => {}
        }
        for field in &item.fields {
            reached.in_arcs(&field.ty);
        }
    }
    for function in &index.functions {
        for (_, ty) in &function.parameters {
            reached.in_arcs(ty);
        }
        reached.in_arcs(&function.output);
    }
    while let Some(name) = reached.queue.pop() {
        for item in index.types.iter().filter(|item| item.name == name) {
            for field in &item.fields {
                reached.all_in(&field.ty);
            }
        }
    }
    classes.extend(reached.types);
    classes
}

/// Returns the fields that Python-callable methods with a shared receiver name.
fn touched_by_readers(index: &Index<'_>, item: &TypeItem<'_>) -> HashSet<String> {
    struct Fields(HashSet<String>);
    impl<'ast> Visit<'ast> for Fields {
        fn visit_expr_field(&mut self, field: &'ast syn::ExprField) {
            self.0.insert(match &field.member {
                syn::Member::Named(name) => name.to_string(),
                syn::Member::Unnamed(index) => index.index.to_string(),
            });
            visit::visit_expr_field(self, field);
        }
    }
    let mut fields = Fields(HashSet::new());
    for id in index.methods_of(&item.name) {
        let function = &index.functions[id];
        if function.kind == FunctionKind::PyMethod
            && !is_constructor(function)
            && !borrows_mutably(function)
        {
            fields.visit_block(function.body);
        }
    }
    fields.0
}

struct Reached<'i, 'a> {
    index: &'i Index<'a>,
    types: HashSet<String>,
    queue: Vec<String>,
}

impl Reached<'_, '_> {
    fn add(&mut self, name: &str) {
        if self.types.insert(name.to_owned()) {
            self.queue.push(name.to_owned());
        }
    }

    fn all_in(&mut self, ty: &Ty) {
        let mut names = Vec::new();
        ty.walk(&mut |part| names.extend(part.local().map(ToOwned::to_owned)));
        for name in names {
            self.add(&name);
            // `dyn Trait`: all implementors.
            for implementor in self
                .index
                .implementors(&name)
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>()
            {
                self.add(&implementor);
            }
        }
    }

    fn in_arcs(&mut self, ty: &Ty) {
        let mut arcs = Vec::new();
        ty.walk(&mut |part| {
            if matches!(part.name.as_str(), "std::Arc" | "std::Weak") {
                arcs.push(part.clone());
            }
        });
        for arc in arcs {
            self.all_in(&arc);
        }
    }
}

fn is_constructor(function: &Function<'_>) -> bool {
    function
        .attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("new"))
        || !function
            .signature
            .inputs
            .first()
            .is_some_and(|first| matches!(first, syn::FnArg::Receiver(_)))
            && !function.parameters.first().is_some_and(|(_, ty)| {
                matches!(
                    ty.name.as_str(),
                    "pyo3::PyRef" | "pyo3::PyRefMut" | "pyo3::Bound" | "pyo3::Py"
                )
            })
}

/// Matches a receiver `&mut self`, or `PyRefMut<Self>` in its place.
pub fn borrows_mutably(function: &Function<'_>) -> bool {
    let by_reference = match function.signature.inputs.first() {
        Some(syn::FnArg::Receiver(receiver)) => {
            receiver.reference.is_some() && receiver.mutability.is_some()
        }
        _ => false,
    };
    by_reference
        || function
            .parameters
            .first()
            .is_some_and(|(_, ty)| ty.is("pyo3::PyRefMut"))
}

/// Matches `let object = Self { .. };`: the function has created the value of the variable.
pub(super) fn makes(function: &Function<'_>, variable: &str) -> bool {
    struct Finder<'v>(&'v str, bool);
    impl<'ast> Visit<'ast> for Finder<'_> {
        fn visit_local(&mut self, local: &'ast syn::Local) {
            if let (syn::Pat::Ident(name), Some(init)) = (&local.pat, &local.init) {
                self.1 |= name.ident == self.0 && matches!(*init.expr, syn::Expr::Struct(_));
            }
            visit::visit_local(self, local);
        }
    }
    let mut finder = Finder(variable, false);
    finder.visit_block(function.body);
    finder.1
}

/// Returns the classes that the crate borrows mutably: in methods, parameters and `borrow_mut`.
///
/// Tests are included, because a fix must not break them.
pub(super) fn mutably_borrowed(
    index: &Index<'_>,
    files: &[SourceFile],
    bodies: &[Body],
) -> HashSet<String> {
    let mut names = HashSet::new();
    for file in files {
        Tests(index, &mut names).visit_file(&file.tree);
    }
    for (function, body) in index.functions.iter().zip(bodies) {
        if let Some(name) = &function.self_type
            && function.kind == FunctionKind::PyMethod
            && borrows_mutably(function)
        {
            names.insert(name.clone());
        }
        let mut guards = Vec::new();
        for (_, ty) in function
            .parameters
            .iter()
            .chain([&(String::new(), function.output.clone())])
        {
            ty.walk(&mut |part| {
                if part.is("pyo3::PyRefMut") {
                    guards.push(part.argument(0));
                }
            });
        }
        names.extend(guards.iter().filter_map(Ty::local).map(ToOwned::to_owned));
        // `&mut Class` as a parameter of a function that Python calls.
        if function.is_entry() {
            for input in &function.signature.inputs {
                let syn::FnArg::Typed(parameter) = input else {
                    continue;
                };
                let syn::Type::Reference(reference) = &*parameter.ty else {
                    continue;
                };
                if reference.mutability.is_some() {
                    let ty = index.ty(
                        function.scope,
                        &reference.elem,
                        function.self_type.as_deref(),
                    );
                    names.extend(ty.local().map(ToOwned::to_owned));
                }
            }
        }
        for object in &body.mutable_borrows {
            match object.argument(0).local() {
                Some(name) => drop(names.insert(name.to_owned())),
                None => any_of(index, function, &mut names),
            }
        }
        Guards(index, function, &mut names).visit_block(function.body);
    }
    names
}

/// Collects the classes of `extract::<PyRefMut<Class>>()`.
struct Guards<'n, 'i, 'a>(&'i Index<'a>, &'i Function<'a>, &'n mut HashSet<String>);

impl<'ast> Visit<'ast> for Guards<'_, '_, '_> {
    fn visit_type(&mut self, ty: &'ast syn::Type) {
        let resolved = self.0.ty(self.1.scope, ty, self.1.self_type.as_deref());
        resolved.walk(&mut |part| {
            if part.is("pyo3::PyRefMut") {
                self.2
                    .extend(part.argument(0).local().map(ToOwned::to_owned));
            }
        });
        visit::visit_type(self, ty);
    }
}

/// Adds every class that a borrow of unknown class may refer to.
///
/// These are the classes that the function names, or that fields of its object contain.
fn any_of(index: &Index<'_>, function: &Function<'_>, names: &mut HashSet<String>) {
    let mut mentioned = Identifiers::default();
    mentioned.visit_signature(function.signature);
    mentioned.visit_block(function.body);
    let own = function.self_type.as_ref();
    names.extend(
        own.filter(|_| function.kind == FunctionKind::PyMethod)
            .cloned(),
    );
    let local = mentioned.0.into_iter();
    names.extend(local.filter(|name| index.is_local(name)));
    for item in index.types.iter().filter(|item| Some(&item.name) == own) {
        for field in &item.fields {
            field
                .ty
                .walk(&mut |part| names.extend(part.local().map(ToOwned::to_owned)));
        }
    }
}

/// Collects every class that a borrowing test names. Types are not resolved in tests.
struct Tests<'n, 'i, 'a>(&'i Index<'a>, &'n mut HashSet<String>);

impl<'ast> Visit<'ast> for Tests<'_, '_, '_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
            return;
        }
        let mut mentioned = Identifiers::default();
        mentioned.visit_item_mod(module);
        let borrows = ["borrow_mut", "try_borrow_mut", "PyRefMut"]
            .iter()
            .any(|name| mentioned.0.contains(*name));
        if borrows {
            let local = mentioned.0.into_iter();
            self.1.extend(local.filter(|name| self.0.is_local(name)));
        }
    }
}

/// Collects all identifiers, including those in the arguments of macros.
#[derive(Default)]
struct Identifiers(HashSet<String>);

impl<'ast> Visit<'ast> for Identifiers {
    fn visit_ident(&mut self, ident: &'ast proc_macro2::Ident) {
        self.0.insert(ident.to_string());
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }
}

impl Identifiers {
    fn tokens(&mut self, stream: TokenStream) {
        for token in stream {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) => drop(self.0.insert(ident.to_string())),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}
