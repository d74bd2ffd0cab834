//! Calls of functions by path.
//!
//! These are known functions such as `drop`, `Python::attach` and `thread::spawn`, and functions of
//! the C API, of the checked crate and of other crates.

use syn::{Expr, Token, punctuated::Punctuated, spanned::Spanned, visit::Visit};

use super::{
    Operation, Origin, State, Walker, closures::is_spawn, crate_calls::CrateCall, guards::address,
    text::text,
};
use crate::context::{names::Ty, python};

impl Walker<'_, '_> {
    pub(super) fn call_function(&mut self, call: &syn::ExprCall, path: &syn::Path) {
        let Some(name) = path.segments.last().map(|last| last.ident.to_string()) else {
            return;
        };
        let (owner, full) = self.inference().owner(path);
        let root = full.first().map(String::as_str).unwrap_or_default();
        let span = call.func.span();
        if name == "drop" && call.args.len() == 1 {
            self.call_drop(call, &call.args[0]);
        } else if owner.is("pyo3::Python") && is_attach(&name) {
            if self.state != State::Attached {
                self.emit(Operation::Attach, span);
            }
            self.in_state(State::Attached, |walker| {
                walker.callables(&call.args, &[Ty::named("pyo3::Python")]);
            });
        } else if name.starts_with("with_critical_section") {
            self.critical += 1;
            self.callables(&call.args, &[]);
            self.critical -= 1;
        } else if is_spawn(&name) {
            self.spawn(&call.args);
        } else if root == "rayon" && matches!(name.as_str(), "join" | "scope" | "in_place_scope") {
            self.parallel_closures(&format!("rayon::{name}"), span, &call.args);
        } else if is_lazy(&owner) && name == "new" {
            let cell = owner.last().to_owned();
            self.enter_initialiser(cell, span, |walker| walker.callables(&call.args, &[]));
        } else if let Some(ffi) = python::ffi_name(&full) {
            self.visit_all(&call.args);
            if let Some(what) = python::ffi_that_runs_python(ffi) {
                self.emit(Operation::Python(what.to_owned()), call.span());
            }
            let first = call.args.first();
            let operation = Operation::Ffi {
                function: ffi.to_owned(),
                first: first.map_or(Origin::Unknown, |first| self.origin(first)),
            };
            self.emit(operation, span);
        } else if let Some(function) = self.callee(path) {
            let call = CrateCall {
                function,
                receiver: None,
                arguments: &call.args,
                callee: span,
                acquisition: call.span(),
                address: address(call),
            };
            self.call_of_crate(&call, false);
        } else {
            self.call_of_another_crate(call, &owner, &full, &name);
        }
    }

    pub(super) fn visit_all(&mut self, arguments: &Punctuated<Expr, Token![,]>) {
        for argument in arguments {
            self.visit_expr(argument);
        }
    }

    fn call_drop(&mut self, call: &syn::ExprCall, argument: &Expr) {
        if let Some(variable) = self.variable_guard(argument) {
            self.release_variable(&variable);
            return;
        }
        let ty = self.type_of(argument);
        self.visit_expr(argument);
        if python::is_object(&ty) {
            self.emit(Operation::DropsObject(text(argument)), call.span());
        }
    }

    /// Walks the arguments of a spawn.
    ///
    /// The new thread runs closures, async blocks and functions. The content of a variable is
    /// unknown.
    fn spawn(&mut self, arguments: &Punctuated<Expr, Token![,]>) {
        for argument in arguments {
            let runs = matches!(argument, Expr::Closure(_) | Expr::Async(_) | Expr::Path(_))
                && !self.is_variable(argument);
            if runs {
                self.on_another_thread(|walker| walker.callable(argument, &[]));
            } else {
                self.visit_expr(argument);
            }
        }
    }

    /// Walks a call of another crate's function, of which only the name is known.
    fn call_of_another_crate(
        &mut self,
        call: &syn::ExprCall,
        owner: &Ty,
        full: &[String],
        name: &str,
    ) {
        let keeps_closures = name == "new"
            || !full
                .first()
                .is_some_and(|root| root == "std" || root == "pyo3");
        let mut moved = Vec::new();
        for argument in &call.args {
            match argument {
                Expr::Closure(closure) if keeps_closures => self.stored(closure),
                other => self.visit_expr(other),
            }
            moved.extend(self.variable_guard(argument));
        }
        let span = call.func.span();
        if let Some(kind) = python::waiting_function(full) {
            self.emit(Operation::Wait(kind, full.join("::")), span);
        }
        if python::function_into_python(owner, name) {
            let what = format!("{}::{name}", owner.last());
            self.emit(Operation::Python(what), span);
        }
        // `MutexGuard::map`, `Some` and `Ok` return the guard.
        if !name.ends_with("map") && name != "Some" && name != "Ok" {
            self.release_variables(&moved);
        }
    }
}

/// Returns `true` if the function of `Python` runs its argument attached.
fn is_attach(name: &str) -> bool {
    matches!(
        name,
        "attach" | "with_gil" | "try_attach" | "with_gil_unchecked" | "attach_unchecked"
    )
}

fn is_lazy(ty: &Ty) -> bool {
    ty.is("std::LazyLock") || ty.is("once_cell::Lazy") || ty.is("std::Lazy")
}
