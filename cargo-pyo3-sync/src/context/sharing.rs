//! What several threads can be at, and what is borrowed mutably.

use std::collections::HashSet;

use syn::visit::{self, Visit};

use super::{
    index::{Function, FunctionKind, Index, TypeItem},
    infer::{Inference, Locals},
    names::Ty,
};

/// The types whose values several threads can be at at once: reached, through fields, from a static, an `Arc`, or a class with a method
/// that takes `&self`. What is only ever a local variable, or only reached through `&mut self`, is not among them.
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
            // Of a class that is borrowed mutably, what methods with `&self` touch.
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

/// The fields that methods called by Python with a shared reference name.
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
            // `dyn Trait`: whatever implements it.
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

/// `&mut self`, or `PyRefMut<Self>` in its place.
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

/// The classes that something in the crate borrows mutably: methods, parameters, `borrow_mut`.
pub(super) fn mutably_borrowed(index: &Index<'_>) -> HashSet<String> {
    let mut names = HashSet::new();
    for function in &index.functions {
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
        // `&mut Class` as a parameter of what Python calls.
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
        let mut borrows = Borrows {
            index,
            function,
            names: &mut names,
        };
        borrows.visit_block(function.body);
    }
    names
}

/// `object.borrow_mut()`, `extract::<PyRefMut<Class>>()`.
struct Borrows<'i, 'a> {
    index: &'i Index<'a>,
    function: &'i Function<'a>,
    names: &'i mut HashSet<String>,
}

impl<'ast> Visit<'ast> for Borrows<'_, '_> {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if matches!(
            call.method.to_string().as_str(),
            "borrow_mut" | "try_borrow_mut"
        ) {
            let mut locals = Locals::default();
            for (name, ty) in &self.function.parameters {
                locals.set(name, ty.clone());
            }
            let inference = Inference {
                index: self.index,
                scope: self.function.scope,
                self_type: self.function.self_type.as_deref(),
                locals: &locals,
            };
            let ty = inference.type_of(&call.receiver);
            if ty.is_unknown() || matches!(ty.name.as_str(), "pyo3::Bound" | "pyo3::Py") {
                match ty.argument(0).local() {
                    Some(name) => drop(self.names.insert(name.to_owned())),
                    None => self.borrows_something(),
                }
            }
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_type(&mut self, ty: &'ast syn::Type) {
        let resolved = self
            .index
            .ty(self.function.scope, ty, self.function.self_type.as_deref());
        resolved.clone().walk(&mut |part| {
            if part.is("pyo3::PyRefMut") {
                self.names
                    .extend(part.argument(0).local().map(ToOwned::to_owned));
            }
        });
        visit::visit_type(self, ty);
    }
}

impl Borrows<'_, '_> {
    /// The class is not known; every class that the function names may be it.
    fn borrows_something(&mut self) {
        struct Names<'n, 'i, 'a>(&'n mut HashSet<String>, &'i Index<'a>, Option<&'i str>);
        impl<'ast> Visit<'ast> for Names<'_, '_, '_> {
            fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
                let mut name = segment.ident.to_string();
                if name == "Self" {
                    name = self.2.unwrap_or_default().to_owned();
                }
                if self.1.is_local(&name) {
                    self.0.insert(name);
                }
                visit::visit_path_segment(self, segment);
            }
        }
        let mut names = Names(self.names, self.index, self.function.self_type.as_deref());
        names.visit_signature(self.function.signature);
        names.visit_block(self.function.body);
    }
}
