//! Functions of the crate that detach and run a closure.
//!
//! An example is `fn without_gil<T>(py: Python<'_>, work: impl FnOnce() -> T) -> T`.

use std::collections::HashSet;

use syn::visit::{self, Visit};

use crate::context::{FunctionId, Index};

/// Returns the functions of the crate that run a closure argument detached.
pub fn detaching_helpers(index: &Index<'_>) -> HashSet<FunctionId> {
    struct Finder<'p> {
        parameters: &'p [String],
        found: bool,
    }
    impl<'ast> Visit<'ast> for Finder<'_> {
        fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
            if call.method == "detach" || call.method == "allow_threads" {
                let mut mentions = Mentions {
                    names: self.parameters,
                    found: false,
                };
                for argument in &call.args {
                    mentions.visit_expr(argument);
                }
                self.found |= mentions.found;
            }
            visit::visit_expr_method_call(self, call);
        }
    }
    struct Mentions<'p> {
        names: &'p [String],
        found: bool,
    }
    impl<'ast> Visit<'ast> for Mentions<'_> {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            if let Some(name) = path.get_ident() {
                self.found |= self.names.iter().any(|known| name == known);
            }
        }
    }
    let mut helpers = HashSet::new();
    for (id, function) in index.functions.iter().enumerate() {
        let generics: Vec<String> = function
            .signature
            .generics
            .type_params()
            .map(|parameter| parameter.ident.to_string())
            .collect();
        let callables: Vec<String> = function
            .parameters
            .iter()
            .filter(|(_, ty)| generics.contains(&ty.name) || ty.is("dyn") || ty.is("fn"))
            .map(|(name, _)| name.clone())
            .collect();
        if callables.is_empty() {
            continue;
        }
        let mut finder = Finder {
            parameters: &callables,
            found: false,
        };
        finder.visit_block(function.body);
        if finder.found {
            helpers.insert(id);
        }
    }
    helpers
}
