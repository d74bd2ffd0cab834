//! Implicit drops of Python objects, which may run `__del__`: removed and replaced elements.

use syn::{Expr, spanned::Spanned};

use super::{Operation, Walker, text::text};
use crate::context::{names::Ty, python};

/// Methods of `std` collections that drop an element, or return one that may be ignored.
const REMOVING: [&str; 11] = [
    "insert",
    "remove",
    "clear",
    "pop",
    "truncate",
    "retain",
    "take",
    "replace",
    "pop_front",
    "pop_back",
    "swap_remove",
];

/// The maximum depth of nested fields to search.
const DEPTH: usize = 4;

impl Walker<'_, '_> {
    /// Records drops in a statement such as `table.clear();` or `self.last = object;`.
    pub(super) fn drops_in_statement(&mut self, expression: &Expr) {
        match expression {
            Expr::MethodCall(call) => {
                let method = call.method.to_string();
                if !REMOVING.contains(&method.as_str()) {
                    return;
                }
                let receiver = self.type_of(&call.receiver);
                let peeled = receiver.peeled();
                let is_collection = matches!(
                    peeled.name.as_str(),
                    "std::HashMap"
                        | "std::BTreeMap"
                        | "std::Vec"
                        | "std::VecDeque"
                        | "std::Option"
                        | "std::HashSet"
                );
                // `Vec::insert` drops nothing.
                if is_collection
                    && !(method == "insert" && matches!(peeled.last(), "Vec" | "VecDeque"))
                    && self.holds_objects(peeled, 0)
                {
                    self.emit(Operation::DropsObject(text(expression)), call.method.span());
                }
            }
            Expr::Assign(assign) => {
                let ty = self.type_of(&assign.left);
                let is_variable = matches!(&*assign.left, Expr::Path(_));
                if !is_variable && self.holds_objects(ty.peeled(), 0) {
                    self.emit(
                        Operation::DropsObject(text(&assign.left)),
                        assign.left.span(),
                    );
                }
            }
            _ => {}
        }
    }

    /// Returns `true` if such a value contains references to objects of unknown class.
    fn holds_objects(&self, ty: &Ty, depth: usize) -> bool {
        if depth > DEPTH {
            return false;
        }
        ty.mentions(&mut |ty| {
            if python::is_object(ty) {
                return true;
            }
            let Some(item) = ty
                .local()
                .and_then(|name| self.index.type_named(name, self.file))
            else {
                return false;
            };
            item.fields
                .iter()
                .any(|field| self.holds_objects(&field.ty, depth + 1))
        })
    }
}
