//! Iterations over a `PyDict`, `PySet` or `PyList`: their extent, and the origin of the collection.

use proc_macro2::Span;
use syn::{Expr, Stmt};

use super::{Iteration, Origin, Walker, text::text};
use crate::context::names::Ty;

impl Walker<'_, '_> {
    /// `locked`: the iteration enters a critical section on the collection.
    pub(super) fn iterates(&mut self, collection: &Expr, ty: &Ty, span: Span, locked: bool) {
        if !ty.is("pyo3::Bound") {
            return;
        }
        let name = ty.argument(0).name;
        if !matches!(
            name.as_str(),
            "pyo3::PyDict" | "pyo3::PySet" | "pyo3::PyList"
        ) {
            return;
        }
        let iteration = Iteration {
            class: name.trim_start_matches("pyo3::").to_owned(),
            origin: self.origin(collection),
            place: self.place(span),
            in_critical_section: locked || self.critical > 0,
            events: self.body.events.len()..usize::MAX,
        };
        self.body.iterations.push(iteration);
    }

    /// Ends the iterations that were started in a statement.
    pub(super) fn end_iterations(&mut self, first: usize) {
        let end = self.body.events.len();
        for iteration in &mut self.body.iterations[first..] {
            if iteration.events.end == usize::MAX {
                iteration.events.end = end;
            }
        }
    }

    /// Returns the origin of a collection, as far as the expression shows it.
    pub(super) fn origin(&self, expression: &Expr) -> Origin {
        match expression {
            Expr::Path(path) => match path.path.get_ident().map(ToString::to_string) {
                Some(name) if self.locals.get(&name).is_some() => {
                    self.origins.get(&name).copied().unwrap_or(Origin::Unknown)
                }
                _ => Origin::Shared,
            },
            Expr::Field(field) => match self.type_of(&field.base).peeled().local() {
                Some(_) => Origin::Shared,
                None => Origin::Unknown,
            },
            Expr::Reference(inner) => self.origin(&inner.expr),
            Expr::Paren(inner) => self.origin(&inner.expr),
            Expr::Unary(inner) => self.origin(&inner.expr),
            Expr::Try(inner) => self.origin(&inner.expr),
            Expr::MethodCall(call) => match call.method.to_string().as_str() {
                "copy" | "items" | "keys" | "values" | "call0" | "call1" | "call" => Origin::Fresh,
                "getattr" | "__dict__" | "dict" => Origin::Shared,
                _ => self.origin(&call.receiver),
            },
            Expr::Call(call) => attribute(call).unwrap_or(Origin::Fresh),
            Expr::Unsafe(inner) => match inner.block.stmts.as_slice() {
                [Stmt::Expr(expression, None)] => self.origin(expression),
                _ => Origin::Unknown,
            },
            // Some crates write C API calls as `ffi!(PyObject_GetAttr(..))`.
            Expr::Macro(inner) => match inner.mac.parse_body() {
                Ok(Expr::Call(call)) => attribute(&call).unwrap_or(Origin::Unknown),
                _ => Origin::Unknown,
            },
            _ => Origin::Unknown,
        }
    }
}

/// Returns the origin of the result of `PyObject_GetAttr`.
///
/// A `__dict__` belongs to the object. It is recognized by that name, or by the constant that
/// contains it.
fn attribute(call: &syn::ExprCall) -> Option<Origin> {
    let Expr::Path(function) = &*call.func else {
        return None;
    };
    let name = function.path.segments.last()?.ident.to_string();
    if !name.starts_with("PyObject_GetAttr") {
        return None;
    }
    let is_dict = |name: &Expr| text(name).to_lowercase().contains("dict");
    let is_own = call.args.iter().nth(1).is_none_or(is_dict);
    Some(if is_own {
        Origin::Shared
    } else {
        Origin::Attribute
    })
}
