//! Types of expressions, without a compiler.
//!
//! Types are inferred from declarations and from a few dozen methods of `std` and PyO3. A type that
//! cannot be inferred is unknown, and rules report nothing about it.

use std::collections::HashMap;

use syn::{Expr, Pat};

use super::{
    Index,
    names::{Ty, canonical},
};

/// The variables in scope at a point of a function.
#[derive(Debug, Default, Clone)]
pub(super) struct Locals(Vec<HashMap<String, Ty>>);

impl Locals {
    pub(super) fn enter(&mut self) {
        self.0.push(HashMap::new());
    }

    pub(super) fn leave(&mut self) {
        self.0.pop();
    }

    pub(super) fn set(&mut self, name: &str, ty: Ty) {
        if self.0.is_empty() {
            self.enter();
        }
        if let Some(innermost) = self.0.last_mut() {
            innermost.insert(name.to_owned(), ty);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Ty> {
        self.0.iter().rev().find_map(|level| level.get(name))
    }
}

/// The position of an expression.
pub(super) struct Inference<'i, 'a> {
    pub(super) index: &'i Index<'a>,
    pub(super) scope: usize,
    pub(super) self_type: Option<&'i str>,
    pub(super) locals: &'i Locals,
}

impl Inference<'_, '_> {
    fn file(&self) -> usize {
        self.index.scopes[self.scope].file
    }

    pub(super) fn type_of(&self, expression: &Expr) -> Ty {
        match expression {
            Expr::Path(path) => self.of_path(&path.path),
            Expr::Field(field) => self.of_field(field),
            Expr::MethodCall(call) => self.of_method(call),
            Expr::Call(call) => self.of_call(call),
            Expr::Reference(inner) => self.type_of(&inner.expr),
            Expr::Paren(inner) => self.type_of(&inner.expr),
            Expr::Group(inner) => self.type_of(&inner.expr),
            Expr::Unary(unary) => {
                let inner = self.type_of(&unary.expr);
                if matches!(unary.op, syn::UnOp::Deref(_)) {
                    inner.peeled().clone()
                } else {
                    inner
                }
            }
            Expr::Try(inner) => self.type_of(&inner.expr).argument(0),
            Expr::Block(block) => {
                block
                    .block
                    .stmts
                    .last()
                    .map_or(Ty::unknown(), |last| match last {
                        syn::Stmt::Expr(last, None) => self.type_of(last),
                        _ => Ty::unknown(),
                    })
            }
            Expr::Unsafe(block) => {
                block
                    .block
                    .stmts
                    .last()
                    .map_or(Ty::unknown(), |last| match last {
                        syn::Stmt::Expr(last, None) => self.type_of(last),
                        _ => Ty::unknown(),
                    })
            }
            Expr::Struct(literal) => self.index.path(self.scope, &literal.path, self.self_type),
            Expr::Cast(cast) => self.index.ty(self.scope, &cast.ty, self.self_type),
            Expr::Index(index) => element(self.type_of(&index.expr).peeled()),
            Expr::Tuple(tuple) => Ty {
                name: "()".to_owned(),
                arguments: tuple.elems.iter().map(|part| self.type_of(part)).collect(),
            },
            Expr::Array(array) => Ty::of(
                "[]",
                array
                    .elems
                    .first()
                    .map_or(Ty::unknown(), |first| self.type_of(first)),
            ),
            Expr::Lit(literal) => match literal.lit {
                syn::Lit::Str(_) => Ty::named("str"),
                _ => Ty::unknown(),
            },
            Expr::If(branch) => branch
                .then_branch
                .stmts
                .last()
                .map_or(Ty::unknown(), |last| match last {
                    syn::Stmt::Expr(last, None) => self.type_of(last),
                    _ => Ty::unknown(),
                }),
            Expr::Match(branches) => {
                let types = branches.arms.iter().map(|arm| self.type_of(&arm.body));
                types
                    .into_iter()
                    .find(|ty| !ty.is_unknown())
                    .unwrap_or_default()
            }
            _ => Ty::unknown(),
        }
    }

    fn of_path(&self, path: &syn::Path) -> Ty {
        if let Some(name) = path.get_ident() {
            let name = name.to_string();
            if let Some(ty) = self.locals.get(&name) {
                return ty.clone();
            }
            if name == "self" {
                return self
                    .self_type
                    .map_or(Ty::unknown(), |ty| Ty::named(&format!("crate::{ty}")));
            }
        }
        let Some(last) = path.segments.last() else {
            return Ty::unknown();
        };
        match self
            .index
            .static_named(&last.ident.to_string(), self.file())
        {
            Some(item) => item.ty.clone(),
            None => Ty::unknown(),
        }
    }

    fn of_field(&self, field: &syn::ExprField) -> Ty {
        let base = self.type_of(&field.base);
        let name = match &field.member {
            syn::Member::Named(name) => name.to_string(),
            syn::Member::Unnamed(index) => index.index.to_string(),
        };
        self.field(&base, &name)
    }

    pub(super) fn field(&self, base: &Ty, name: &str) -> Ty {
        let base = base.peeled();
        if base.is("()") {
            return name
                .parse()
                .map_or(Ty::unknown(), |index| base.argument(index));
        }
        let Some(item) = base
            .local()
            .and_then(|local| self.index.type_named(local, self.file()))
        else {
            return Ty::unknown();
        };
        let Some(field) = item.fields.iter().find(|field| field.name == name) else {
            return Ty::unknown();
        };
        substitute(&field.ty, &item.generics, &base.arguments)
    }

    fn of_call(&self, call: &syn::ExprCall) -> Ty {
        let Expr::Path(function) = &*call.func else {
            return Ty::unknown();
        };
        let path = &function.path;
        if let Some(id) = self.index.callee(self.scope, path, self.self_type) {
            let callee = &self.index.functions[id];
            return callee.output.clone();
        }
        let first = || {
            call.args
                .first()
                .map_or(Ty::unknown(), |first| self.type_of(first))
        };
        let Some(last) = path.segments.last() else {
            return Ty::unknown();
        };
        let name = last.ident.to_string();
        if path.segments.len() == 1 {
            match name.as_str() {
                "Some" => return Ty::of("std::Option", first()),
                "Ok" => return Ty::of("std::Result", first()),
                _ => {}
            }
            if self.index.type_named(&name, self.file()).is_some() {
                return Ty::named(&format!("crate::{name}"));
            }
        }
        let (owner, _) = self.owner(path);
        match (owner.name.as_str(), name.as_str()) {
            ("std::Arc" | "std::Rc" | "std::Box", "new") => Ty::of(&owner.name, first()),
            ("std::Arc" | "std::Rc" | "std::Box", "clone") => first(),
            (_, "clone") => first(),
            ("std::mpsc", "channel" | "sync_channel") => {
                let sender = if name == "channel" {
                    "std::Sender"
                } else {
                    "std::SyncSender"
                };
                Ty {
                    name: "()".to_owned(),
                    arguments: vec![Ty::named(sender), Ty::named("std::Receiver")],
                }
            }
            ("crossbeam_channel" | "crossbeam::channel" | "flume", "bounded" | "unbounded") => Ty {
                name: "()".to_owned(),
                arguments: vec![
                    Ty::named("crossbeam_channel::Sender"),
                    Ty::named("crossbeam_channel::Receiver"),
                ],
            },
            ("std::thread", "spawn") => Ty::named("std::JoinHandle"),
            ("std::mem", "take" | "replace") => first(),
            ("pyo3::Python", "attach" | "with_gil") => Ty::unknown(),
            ("pyo3::Python", "assume_attached" | "assume_gil_acquired") => {
                Ty::named("pyo3::Python")
            }
            ("pyo3::Py", "new") => Ty::of("std::Result", Ty::of("pyo3::Py", owner.argument(0))),
            ("pyo3::Bound", "new") => {
                Ty::of("std::Result", Ty::of("pyo3::Bound", owner.argument(0)))
            }
            (
                "pyo3::PyDict" | "pyo3::PyList" | "pyo3::PyTuple" | "pyo3::PySet"
                | "pyo3::PyString" | "pyo3::PyBytes",
                made,
            ) if made.starts_with("new") || made.starts_with("empty") => {
                // `PyList::new` returns a `Result` from PyO3 0.23. Before, `unwrap` and `?` on the
                // object yield the same type.
                let object = Ty::of("pyo3::Bound", owner.clone());
                if made == "new" && matches!(owner.last(), "PyList" | "PyTuple" | "PySet") {
                    Ty::of("std::Result", object)
                } else {
                    object
                }
            }
            ("pyo3::PyModule", "import" | "new" | "import_bound") => Ty::of(
                "std::Result",
                Ty::of("pyo3::Bound", Ty::named("pyo3::PyModule")),
            ),
            (owner_name, "new" | "default" | "with_capacity" | "const_new" | "from")
                if !owner_name.is_empty() && starts_upper(owner.last()) =>
            {
                if owner.arguments.is_empty()
                    && matches!(name.as_str(), "new")
                    && call.args.len() == 1
                {
                    Ty {
                        name: owner.name.clone(),
                        arguments: vec![first()],
                    }
                } else {
                    owner
                }
            }
            _ => Ty::unknown(),
        }
    }

    /// Returns the prefix of a path: a type, or a module such as `std::thread`.
    pub(super) fn owner(&self, path: &syn::Path) -> (Ty, Vec<String>) {
        let written: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        let full = self.index.scopes[self.scope].imports.expand(&written);
        if full.len() < 2 {
            return (Ty::unknown(), full);
        }
        let before = &full[..full.len() - 1];
        if before.last().is_some_and(|last| !starts_upper(last)) {
            // A module, by its full name.
            let mut name = before.join("::");
            if name == "std::sync::mpsc" {
                name = "std::mpsc".to_owned();
            }
            return (Ty::named(&name), full);
        }
        if written.len() >= 2 {
            let mut owner = path.clone();
            owner.segments.pop();
            owner.segments.pop_punct();
            let ty = self.index.path(self.scope, &owner, self.self_type);
            return (ty, full);
        }
        let imports = &self.index.scopes[self.scope].imports;
        (
            Ty::named(&canonical(before, imports, &self.index.declared)),
            full,
        )
    }

    fn of_method(&self, call: &syn::ExprMethodCall) -> Ty {
        let receiver = self.type_of(&call.receiver);
        let method = call.method.to_string();
        // Methods of the wrappers.
        match (receiver.name.as_str(), method.as_str()) {
            ("std::Option" | "std::Result", _) => {
                let inner = receiver.argument(0);
                return match method.as_str() {
                    "unwrap"
                    | "expect"
                    | "unwrap_or_else"
                    | "unwrap_or"
                    | "unwrap_or_default"
                    | "unwrap_unchecked"
                    | "get_or_insert_with"
                    | "get_or_insert"
                    | "get_or_insert_default"
                    | "insert" => inner,
                    "ok" | "ok_or" | "ok_or_else" | "map_err" | "as_ref" | "as_mut"
                    | "as_deref" | "as_deref_mut" | "cloned" | "copied" | "take" | "filter"
                    | "or_else" | "or" | "clone" | "inspect" => {
                        let name = if method == "ok" {
                            "std::Option"
                        } else {
                            &receiver.name
                        };
                        Ty::of(name, inner)
                    }
                    "iter" | "into_iter" | "iter_mut" => Ty::of("iter", inner),
                    _ => Ty::unknown(),
                };
            }
            ("iter", _) => {
                return match method.as_str() {
                    "next" | "last" | "nth" | "find" | "max_by_key" | "min_by_key"
                    | "next_back" => Ty::of("std::Option", receiver.argument(0)),
                    "filter" | "rev" | "skip" | "take" | "cloned" | "copied" | "peekable"
                    | "by_ref" | "chain" | "step_by" | "take_while" | "skip_while" | "inspect"
                    | "iter" | "into_iter" => receiver.clone(),
                    "enumerate" => Ty::of(
                        "iter",
                        Ty {
                            name: "()".to_owned(),
                            arguments: vec![Ty::unknown(), receiver.argument(0)],
                        },
                    ),
                    _ => Ty::unknown(),
                };
            }
            _ => {}
        }
        let peeled = receiver.peeled();
        if let Some(id) = self.method_of_crate(peeled, &method) {
            return self.index.functions[id].output.clone();
        }
        let inner = || peeled.argument(0);
        match (peeled.name.as_str(), method.as_str()) {
            (
                _,
                "clone" | "to_owned" | "as_ref" | "as_mut" | "borrow" | "by_ref" | "deref"
                | "deref_mut" | "as_deref" | "into",
            ) if !peeled.is("pyo3::Bound")
                && !peeled.is("pyo3::Py")
                && !peeled.is("std::RefCell") =>
            {
                receiver.clone()
            }
            ("std::Mutex", "lock") => Ty::of("std::Result", Ty::of("std::MutexGuard", inner())),
            ("std::Mutex", "try_lock") => Ty::of("std::Result", Ty::of("std::MutexGuard", inner())),
            ("std::RwLock", "read" | "try_read") => {
                Ty::of("std::Result", Ty::of("std::RwLockReadGuard", inner()))
            }
            ("std::RwLock", "write" | "try_write") => {
                Ty::of("std::Result", Ty::of("std::RwLockWriteGuard", inner()))
            }
            (
                "parking_lot::Mutex" | "parking_lot::ReentrantMutex" | "parking_lot::FairMutex",
                "lock",
            ) => Ty::of("parking_lot::MutexGuard", inner()),
            ("parking_lot::RwLock", "read" | "upgradable_read") => {
                Ty::of("parking_lot::RwLockReadGuard", inner())
            }
            ("parking_lot::RwLock", "write") => Ty::of("parking_lot::RwLockWriteGuard", inner()),
            ("parking_lot::Mutex", "try_lock") => {
                Ty::of("std::Option", Ty::of("parking_lot::MutexGuard", inner()))
            }
            ("std::Mutex", "lock_py_attached" | "lock_attached") => {
                Ty::of("std::Result", Ty::of("std::MutexGuard", inner()))
            }
            ("std::RwLock", "read_py_attached" | "read_attached") => {
                Ty::of("std::Result", Ty::of("std::RwLockReadGuard", inner()))
            }
            ("std::RwLock", "write_py_attached" | "write_attached") => {
                Ty::of("std::Result", Ty::of("std::RwLockWriteGuard", inner()))
            }
            ("std::RefCell", "borrow" | "borrow_mut") => Ty::of("std::RefMut", inner()),
            (
                "std::OnceLock"
                | "once_cell::OnceCell"
                | "pyo3::GILOnceCell"
                | "pyo3::PyOnceLock"
                | "pyo3_sync::PyOnceLock",
                "get",
            ) => Ty::of("std::Option", inner()),
            (
                "std::OnceLock"
                | "once_cell::OnceCell"
                | "pyo3::GILOnceCell"
                | "pyo3::PyOnceLock"
                | "pyo3_sync::PyOnceLock",
                "get_or_init",
            ) => inner(),
            (
                "std::OnceLock"
                | "once_cell::OnceCell"
                | "pyo3::GILOnceCell"
                | "pyo3::PyOnceLock"
                | "pyo3_sync::PyOnceLock",
                "get_or_try_init" | "import" | "get_or_try_init_py",
            ) => Ty::of("std::Result", inner()),
            ("pyo3::Py", "bind" | "into_bound" | "bind_borrowed" | "as_ref") => {
                Ty::of("pyo3::Bound", inner())
            }
            ("pyo3::Py" | "pyo3::Bound", "clone" | "clone_ref" | "as_any" | "into_any") => {
                peeled.clone()
            }
            ("pyo3::Bound", "unbind" | "as_unbound") => Ty::of("pyo3::Py", inner()),
            ("pyo3::Py" | "pyo3::Bound", "get") if call.args.is_empty() => inner(),
            ("pyo3::Py" | "pyo3::Bound", "borrow") => Ty::of("pyo3::PyRef", inner()),
            ("pyo3::Py" | "pyo3::Bound", "borrow_mut") => Ty::of("pyo3::PyRefMut", inner()),
            ("pyo3::Bound" | "pyo3::PyRef" | "pyo3::PyRefMut", "py") => Ty::named("pyo3::Python"),
            (_, "py") if call.args.is_empty() => Ty::named("pyo3::Python"),
            (
                "pyo3::Bound" | "pyo3::Py" | "pyo3::PyAny",
                "getattr" | "call0" | "call1" | "call" | "call_method0" | "call_method1"
                | "call_method",
            ) => Ty::of(
                "std::Result",
                Ty::of("pyo3::Bound", Ty::named("pyo3::PyAny")),
            ),
            ("pyo3::Python", "import" | "import_bound") => Ty::of(
                "std::Result",
                Ty::of("pyo3::Bound", Ty::named("pyo3::PyModule")),
            ),
            (
                "pyo3::Bound" | "pyo3::Py" | "pyo3::PyAny",
                "downcast" | "cast" | "downcast_into" | "cast_into" | "downcast_exact"
                | "cast_exact" | "extract",
            ) => self.turbofish(call).map_or(Ty::unknown(), |ty| {
                if method == "extract" {
                    Ty::of("std::Result", ty)
                } else {
                    Ty::of("std::Result", Ty::of("pyo3::Bound", ty))
                }
            }),
            ("pyo3::Bound", "iter") if inner().is("pyo3::PyDict") => {
                let object = Ty::of("pyo3::Bound", Ty::named("pyo3::PyAny"));
                Ty::of(
                    "iter",
                    Ty {
                        name: "()".to_owned(),
                        arguments: vec![object.clone(), object],
                    },
                )
            }
            ("pyo3::Bound", "iter") => {
                Ty::of("iter", Ty::of("pyo3::Bound", Ty::named("pyo3::PyAny")))
            }
            ("std::HashMap" | "std::BTreeMap" | "hashbrown::HashMap" | "indexmap::IndexMap", _) => {
                match method.as_str() {
                    "get" | "get_mut" | "remove" | "insert" => {
                        Ty::of("std::Option", peeled.argument(1))
                    }
                    "iter" | "iter_mut" | "into_iter" | "drain" => Ty::of(
                        "iter",
                        Ty {
                            name: "()".to_owned(),
                            arguments: vec![peeled.argument(0), peeled.argument(1)],
                        },
                    ),
                    "values" | "values_mut" | "into_values" => Ty::of("iter", peeled.argument(1)),
                    "keys" | "into_keys" => Ty::of("iter", peeled.argument(0)),
                    _ => Ty::unknown(),
                }
            }
            ("std::Vec" | "[]" | "std::VecDeque" | "std::HashSet" | "std::BTreeSet", _) => {
                match method.as_str() {
                    "get" | "get_mut" | "first" | "last" | "pop" | "last_mut" | "pop_front"
                    | "pop_back" | "first_mut" => Ty::of("std::Option", inner()),
                    "iter" | "iter_mut" | "into_iter" | "drain" => Ty::of("iter", inner()),
                    "remove" | "swap_remove" if peeled.is("std::Vec") => inner(),
                    "remove" => Ty::of("std::Option", inner()),
                    _ => Ty::unknown(),
                }
            }
            _ => Ty::unknown(),
        }
    }

    fn turbofish(&self, call: &syn::ExprMethodCall) -> Option<Ty> {
        let first = call.turbofish.as_ref()?.args.first()?;
        match first {
            syn::GenericArgument::Type(ty) => Some(self.index.ty(self.scope, ty, self.self_type)),
            _ => None,
        }
    }

    /// Returns the field that a pattern names: `Shape::Circle(radius)`, `Circle { radius }`.
    pub(super) fn field_in_pattern(&self, ty: &Ty, path: &syn::Path, name: &str) -> Ty {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        let [.., owner, variant] = segments.as_slice() else {
            let known = self.field(ty, name);
            let written = || self.field(&self.index.path(self.scope, path, self.self_type), name);
            return if known.is_unknown() { written() } else { known };
        };
        let owner = if owner == "Self" {
            self.self_type.unwrap_or_default()
        } else {
            owner
        };
        let Some(item) = self.index.type_named(owner, self.file()) else {
            return self.field(ty, name);
        };
        let field = item.fields.iter().find(|field| {
            field.name == name && field.variant.as_ref().is_none_or(|known| known == variant)
        });
        field.map_or(Ty::unknown(), |field| {
            substitute(&field.ty, &item.generics, &ty.peeled().arguments)
        })
    }

    pub(super) fn method_of_crate(&self, receiver: &Ty, method: &str) -> Option<super::FunctionId> {
        let name = match receiver.name.as_str() {
            "pyo3::PyRef" | "pyo3::PyRefMut" | "dyn" => receiver.argument(0).local()?.to_owned(),
            _ => receiver.local()?.to_owned(),
        };
        self.index.method(&name, method, self.file())
    }
}

fn starts_upper(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_uppercase)
}

/// Returns the type of the elements of a collection.
pub(super) fn element(ty: &Ty) -> Ty {
    match ty.name.as_str() {
        "iter" | "[]" | "std::Vec" | "std::VecDeque" | "std::HashSet" | "std::BTreeSet"
        | "std::Option" => ty.argument(0),
        "std::HashMap" | "std::BTreeMap" => Ty {
            name: "()".to_owned(),
            arguments: vec![ty.argument(0), ty.argument(1)],
        },
        _ => Ty::unknown(),
    }
}

fn substitute(ty: &Ty, generics: &[String], arguments: &[Ty]) -> Ty {
    if let Some(index) = generics.iter().position(|generic| *generic == ty.name) {
        return arguments.get(index).cloned().unwrap_or_default();
    }
    Ty {
        name: ty.name.clone(),
        arguments: ty
            .arguments
            .iter()
            .map(|ty| substitute(ty, generics, arguments))
            .collect(),
    }
}

/// Binds the variables of a pattern to their types.
pub(super) fn bind(
    locals: &mut Locals,
    pattern: &Pat,
    ty: &Ty,
    within: &dyn Fn(&Locals, &Ty, &syn::Path, &str) -> Ty,
    written: &dyn Fn(&syn::Type) -> Ty,
) {
    match pattern {
        Pat::Ident(name) => {
            locals.set(&name.ident.to_string(), ty.clone());
            if let Some((_, inner)) = &name.subpat {
                bind(locals, inner, ty, within, written);
            }
        }
        Pat::Type(typed) => {
            let known = written(&typed.ty);
            let ty = if known.is_unknown() || known.is("_") {
                ty.clone()
            } else {
                known
            };
            bind(locals, &typed.pat, &ty, within, written);
        }
        Pat::Reference(inner) => bind(locals, &inner.pat, ty, within, written),
        Pat::Paren(inner) => bind(locals, &inner.pat, ty, within, written),
        Pat::Tuple(tuple) => {
            let peeled = ty.peeled().clone();
            for (index, pattern) in tuple.elems.iter().enumerate() {
                bind(locals, pattern, &peeled.argument(index), within, written);
            }
        }
        Pat::TupleStruct(tuple) => {
            let last = tuple
                .path
                .segments
                .last()
                .map(|segment| segment.ident.to_string());
            for (index, pattern) in tuple.elems.iter().enumerate() {
                let inner = match last.as_deref() {
                    Some("Some" | "Ok") => ty.argument(0),
                    Some("Err") => ty.argument(1),
                    _ => within(locals, ty, &tuple.path, &index.to_string()),
                };
                bind(locals, pattern, &inner, within, written);
            }
        }
        Pat::Struct(fields) => {
            for field in &fields.fields {
                let name = match &field.member {
                    syn::Member::Named(name) => name.to_string(),
                    syn::Member::Unnamed(index) => index.index.to_string(),
                };
                let inner = within(locals, ty, &fields.path, &name);
                bind(locals, &field.pat, &inner, within, written);
            }
        }
        Pat::Slice(slice) => {
            for pattern in &slice.elems {
                bind(locals, pattern, &element(ty.peeled()), within, written);
            }
        }
        Pat::Or(or) => {
            for pattern in &or.cases {
                bind(locals, pattern, ty, within, written);
            }
        }
        _ => {}
    }
}
