//! The time and thread in which a closure runs.
//!
//! A closure that runs immediately holds the live guards, and is attached if the call site is,
//! unless the call changes that. A stored closure holds none of the guards. A closure that another
//! thread runs also is not attached.

use proc_macro2::Span;
use syn::{Expr, Pat, Token, punctuated::Punctuated, spanned::Spanned, visit::Visit};

use super::{Initialiser, Operation, Parallel, State, Walker};
use crate::context::names::Ty;

impl Walker<'_, '_> {
    /// Walks in another state. Guards acquired inside do not stay alive.
    pub(super) fn in_state(&mut self, state: State, inside: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.state, state);
        let live = self.live.clone();
        inside(self);
        self.live = live;
        self.state = outer;
    }

    /// Walks code that does not run as part of this function.
    fn walk_elsewhere(&mut self, inside: impl FnOnce(&mut Self)) {
        let live = std::mem::take(&mut self.live);
        let elsewhere = std::mem::replace(&mut self.elsewhere, true);
        let initialiser = self.initialiser.take();
        inside(self);
        self.initialiser = initialiser;
        self.elsewhere = elsewhere;
        self.live = live;
    }

    /// Walks code that another thread runs.
    pub(super) fn on_another_thread(&mut self, inside: impl FnOnce(&mut Self)) {
        let state = std::mem::replace(&mut self.state, State::Detached);
        self.walk_elsewhere(inside);
        self.state = state;
    }

    /// Walks a stored closure, which is called when this function holds no guards.
    pub(super) fn stored(&mut self, closure: &syn::ExprClosure) {
        self.walk_elsewhere(|walker| walker.closure(closure, &[]));
    }

    /// Walks the initializer of a cell, which other threads wait for.
    pub(super) fn enter_initialiser(
        &mut self,
        cell: String,
        span: Span,
        inside: impl FnOnce(&mut Self),
    ) {
        let id = self.body.initialisers.len();
        self.body.initialisers.push(Initialiser {
            cell,
            place: self.place(span),
            state: self.state,
            token: None,
            held_outside: !self.live.is_empty(),
        });
        let outer = self.initialiser.replace(id);
        self.in_state(self.state, inside);
        self.initialiser = outer;
    }

    /// Walks closures that other threads run while this thread waits for them.
    pub(super) fn parallel_closures(
        &mut self,
        what: &str,
        span: Span,
        arguments: &Punctuated<Expr, Token![,]>,
    ) {
        let id = self.body.parallels.len();
        self.body.parallels.push(Parallel {
            place: self.place(span),
            state: self.state,
            what: what.to_owned(),
        });
        for argument in arguments {
            if matches!(argument, Expr::Closure(_)) {
                let outer = self.parallel.replace(id);
                self.on_another_thread(|walker| walker.callable(argument, &[]));
                self.parallel = outer;
            } else {
                self.visit_expr(argument);
            }
        }
    }

    /// Walks the body of a closure that runs immediately. It is attached if it takes a token.
    pub(super) fn closure(&mut self, closure: &syn::ExprClosure, parameters: &[Ty]) {
        self.locals.enter();
        let mut state = self.state;
        for (number, pattern) in closure.inputs.iter().enumerate() {
            let mut ty = parameters.get(number).cloned().unwrap_or_default();
            if let Pat::Ident(name) = pattern
                && name.ident == "py"
                && ty.is_unknown()
            {
                ty = Ty::named("pyo3::Python");
            }
            self.bind(pattern, &ty);
            let known = match pattern {
                Pat::Type(typed) => self
                    .index
                    .ty(self.scope, &typed.ty, self.self_type.as_deref()),
                _ => ty,
            };
            if known.is("pyo3::Python") {
                state = State::Attached;
            }
        }
        self.in_state(state, |walker| walker.visit_expr(&closure.body));
        self.locals.leave();
    }

    /// Walks an argument that the callee calls: a closure, or the name of a function.
    pub(super) fn callable(&mut self, argument: &Expr, parameters: &[Ty]) {
        match argument {
            Expr::Closure(closure) => self.closure(closure, parameters),
            Expr::Path(path) => {
                if let Some(id) = self.callee(&path.path) {
                    self.emit(Operation::Call(id), path.span());
                }
            }
            other => self.visit_expr(other),
        }
    }

    pub(super) fn callables(&mut self, arguments: &Punctuated<Expr, Token![,]>, parameters: &[Ty]) {
        for argument in arguments {
            self.callable(argument, parameters);
        }
    }
}

/// Returns `true` if functions of this name run their argument on another thread or in a task.
pub(super) fn is_spawn(name: &str) -> bool {
    matches!(
        name,
        "spawn"
            | "spawn_blocking"
            | "spawn_local"
            | "spawn_scoped"
            | "spawn_fifo"
            | "spawn_named"
            | "spawn_pinned"
            | "spawn_broadcast"
            | "execute"
    )
}

/// Returns `true` if methods of this name often take the name of a function.
pub(super) fn has_callable_argument(method: &str) -> bool {
    matches!(
        method,
        "map"
            | "and_then"
            | "for_each"
            | "try_for_each"
            | "filter_map"
            | "unwrap_or_else"
            | "map_err"
            | "or_else"
    )
}

/// Returns `true` if a method calls its closure before it returns.
///
/// Methods of iterators, options and collections do. An unknown method may store its closure.
pub(super) fn runs_closure_now(receiver: &Ty, method: &str) -> bool {
    let known_type = [
        "std::",
        "pyo3::",
        "iter",
        "[]",
        "pyo3_sync::",
        "parking_lot::",
    ]
    .iter()
    .any(|root| receiver.name.starts_with(root));
    let known_method = [
        "map",
        "filter",
        "find",
        "sort",
        "max_by",
        "min_by",
        "try_for",
        "for_each",
        "flat_map",
        "then",
        "unwrap_or",
        "or_",
        "ok_or",
        "is_",
        "and_",
        "retain",
        "dedup",
        "fold",
        "try_fold",
        "take_while",
        "skip_while",
        "inspect",
        "get_or",
        "with",
        "try_with",
        "any",
        "all",
        "position",
        "scan",
        "partition",
        "reduce",
        "chunk_by",
        "locked_",
        "binary_search",
        "replace_with",
        "update",
        "split",
        "trim",
        "extend",
        "drain",
        "entry",
        "scope",
        "catch",
        "sum",
        "group_by",
        "unlocked",
        "each",
        "visit",
        "walk",
        "iter",
        "zip",
    ]
    .iter()
    .any(|start| method.starts_with(start));
    known_type || known_method
}

/// Returns `true` for a method chain that starts with a parallel iterator of Rayon.
pub(super) fn is_parallel(receiver: &Expr) -> bool {
    match receiver {
        Expr::MethodCall(call) => {
            let method = call.method.to_string();
            method.starts_with("par_")
                || method.starts_with("into_par_")
                || is_parallel(&call.receiver)
        }
        Expr::Try(inner) => is_parallel(&inner.expr),
        _ => false,
    }
}
