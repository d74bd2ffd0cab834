//! Calls of methods.
//!
//! These are locks, `py.detach(..)`, initializers of cells, parallel iterators, waits, and calls
//! into Python.

use syn::{Expr, visit::Visit};

use super::{
    Operation, State, WaitKind, Walker,
    closures::{has_callable_argument, is_parallel, is_spawn, runs_closure_now},
    crate_calls::CrateCall,
    guards::address,
    text::text,
};
use crate::context::{names::Ty, python};

impl Walker<'_, '_> {
    /// Walks a method call.
    ///
    /// `awaited` is `true` if `.await` follows. `unwrapped` is `true` if `unwrap()`, `?` or a
    /// similar operation follows, as after the `lock()` of `std`.
    pub(super) fn call_method(
        &mut self,
        call: &syn::ExprMethodCall,
        awaited: bool,
        unwrapped: bool,
    ) {
        match &*call.receiver {
            Expr::MethodCall(inner) => self.call_method(inner, false, unwraps(&call.method)),
            other => self.visit_expr(other),
        }
        let method = call.method.to_string();
        let receiver = self.type_of(&call.receiver);
        let peeled = receiver.peeled();
        let span = call.method.span();
        if (method == "borrow_mut" || method == "try_borrow_mut")
            && (peeled.is_unknown() || peeled.is("pyo3::Bound") || peeled.is("pyo3::Py"))
        {
            self.body.mutable_borrows.push(peeled.clone());
        }
        let has_closure = call
            .args
            .iter()
            .any(|argument| matches!(argument, Expr::Closure(_)));
        if !awaited && let Some(lock) = self.lock_taken(call, &receiver, unwrapped) {
            self.visit_all(&call.args);
            self.acquire(lock, span, address(call));
        } else if is_detach(call, peeled, has_closure) {
            self.emit(Operation::Detach, span);
            self.in_state(State::Detached, |walker| walker.callables(&call.args, &[]));
        } else if fills_cell(call, peeled) {
            let cell = if peeled.is_unknown() {
                "once-cell"
            } else {
                peeled.last()
            };
            self.enter_initialiser(cell.to_owned(), span, |walker| {
                walker.callables(&call.args, &[]);
            });
        } else if method == "install"
            && (peeled.last() == "ThreadPool" || peeled.is_unknown() && has_closure)
        {
            self.parallel_closures("install", span, &call.args);
        } else if is_spawn(&method) && !peeled.is("std::Command") {
            for argument in &call.args {
                if matches!(argument, Expr::Closure(_) | Expr::Async(_)) {
                    self.on_another_thread(|walker| walker.callable(argument, &[]));
                } else {
                    self.visit_expr(argument);
                }
            }
        } else if has_closure && is_parallel(&call.receiver) {
            self.parallel_closures("parallel iterator", span, &call.args);
        } else if let Some(function) = self.inference().method_of_crate(peeled, &method) {
            let call = CrateCall {
                function,
                receiver: Some(&call.receiver),
                arguments: &call.args,
                callee: span,
                acquisition: span,
                address: address(call),
            };
            self.call_of_crate(&call, awaited);
        } else {
            let wait = python::waiting_method(peeled, call, unwrapped);
            self.call_method_of_another_crate(call, &receiver, wait, awaited);
        }
    }

    /// Walks a call of another crate's method, of which only the name and receiver type are known.
    fn call_method_of_another_crate(
        &mut self,
        call: &syn::ExprMethodCall,
        receiver: &Ty,
        wait: Option<WaitKind>,
        awaited: bool,
    ) {
        let method = call.method.to_string();
        let peeled = receiver.peeled();
        let span = call.method.span();
        let is_condvar_wait = wait == Some(WaitKind::Condvar);
        let given = given_to_closures(receiver, &method);
        let mut moved = Vec::new();
        // Before the closure, which is called during the iteration.
        match method.as_str() {
            "iter" if call.args.is_empty() => self.iterates(&call.receiver, peeled, span, false),
            "locked_for_each" => self.iterates(&call.receiver, peeled, span, true),
            _ => {}
        }
        for argument in &call.args {
            match argument {
                Expr::Closure(closure) if runs_closure_now(peeled, &method) => {
                    self.closure(closure, &given);
                }
                Expr::Closure(closure) => self.stored(closure),
                Expr::Path(_) if has_callable_argument(&method) => {
                    self.callable(argument, &[]);
                    self.visit_expr(argument);
                }
                other => {
                    self.visit_expr(other);
                    if !is_condvar_wait {
                        moved.extend(self.variable_guard(other));
                    }
                }
            }
        }
        if !awaited && let Some(kind) = wait {
            self.emit(Operation::Wait(kind, method.clone()), span);
            // The method returns the guard that is passed to it.
            if is_condvar_wait
                && let Some(id) = call.args.first().and_then(|first| self.guard_of(first))
            {
                self.given.insert(address(call), id);
            }
        }
        let first = call
            .args
            .first()
            .map(|first| self.type_of(first))
            .unwrap_or_default();
        if python::method_into_python(peeled, &method, call.args.len(), &first) {
            self.emit(Operation::Python(method.clone()), span);
        }
        self.release_variables(&moved);
    }
}

/// Matches methods that unwrap the result of `.lock()`.
fn unwraps(method: &syn::Ident) -> bool {
    [
        "unwrap",
        "expect",
        "unwrap_or_else",
        "map_err",
        "ok",
        "is_ok",
        "unwrap_or",
    ]
    .iter()
    .any(|name| method == name)
}

fn is_detach(call: &syn::ExprMethodCall, receiver: &Ty, has_closure: bool) -> bool {
    let looks_like_it =
        receiver.is_unknown() && (has_closure || text(&call.receiver).ends_with("py"));
    (call.method == "detach" || call.method == "allow_threads")
        && (receiver.is("pyo3::Python") || looks_like_it)
}

/// Matches initializing calls on a `OnceLock`, `OnceCell`, `Once`, or unknown type.
fn fills_cell(call: &syn::ExprMethodCall, receiver: &Ty) -> bool {
    let method = call.method.to_string();
    matches!(
        method.as_str(),
        "get_or_init" | "get_or_try_init" | "call_once" | "call_once_force"
    ) && call.args.len() == 1
        && matches!(
            receiver.name.as_str(),
            "std::OnceLock" | "once_cell::OnceCell" | "std::Once" | "parking_lot::Once" | ""
        )
}

/// Returns the parameter types of closures passed to iterators, options and results.
fn given_to_closures(receiver: &Ty, method: &str) -> Vec<Ty> {
    match (receiver.name.as_str(), method) {
        ("std::Option" | "std::Result", "map_err" | "or_else" | "unwrap_or_else") => Vec::new(),
        ("iter" | "std::Option" | "std::Result", _) => vec![receiver.argument(0)],
        _ => Vec::new(),
    }
}
