//! Fields whose objects `__traverse__` visits.

use std::collections::HashSet;

use syn::{
    Expr, ExprField, Pat,
    visit::{self, Visit},
};

use super::{member, variable};

/// Returns the fields that a function visits with the given `PyVisit`.
///
/// A call visits a field if it takes both the field and the `PyVisit`. A field may pass through
/// variables.
pub(super) fn fields(body: &syn::Block, visitor: &str) -> HashSet<String> {
    let mut visits = Visits {
        visitor,
        visited: Names::default(),
        bindings: Vec::new(),
    };
    visits.visit_block(body);
    let Visits {
        mut visited,
        mut bindings,
        ..
    } = visits;
    loop {
        let before = bindings.len();
        bindings.retain(|binding| {
            let is_visited = !binding.variables.is_disjoint(&visited.variables);
            if is_visited {
                visited.fields.extend(binding.from.fields.iter().cloned());
                let variables = binding.from.variables.iter();
                visited.variables.extend(variables.cloned());
            }
            !is_visited
        });
        if bindings.len() == before {
            return visited.fields;
        }
    }
}

struct Visits<'v> {
    visitor: &'v str,
    visited: Names,
    bindings: Vec<Binding>,
}

/// Variables of a pattern, and the names in the value that it matches.
struct Binding {
    variables: HashSet<String>,
    from: Names,
}

impl Visits<'_> {
    fn bind(&mut self, pattern: &Pat, from: Names) {
        let mut declared = Declared::default();
        declared.visit_pat(pattern);
        self.bindings.push(Binding {
            variables: declared.0,
            from,
        });
    }

    fn call<'e>(&mut self, parts: impl Iterator<Item = &'e Expr> + Clone) {
        let mut all = AllNames::default();
        parts.clone().for_each(|part| all.visit_expr(part));
        if all.0.contains(self.visitor) {
            parts.for_each(|part| self.visited.visit_expr(part));
        }
    }
}

impl<'ast> Visit<'ast> for Visits<'_> {
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        self.call(call.args.iter());
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.call(call.args.iter().chain([&*call.receiver]));
        visit::visit_expr_method_call(self, call);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            self.bind(&local.pat, Names::of(&init.expr));
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_let(&mut self, node: &'ast syn::ExprLet) {
        self.bind(&node.pat, Names::of(&node.expr));
        visit::visit_expr_let(self, node);
    }

    fn visit_expr_for_loop(&mut self, node: &'ast syn::ExprForLoop) {
        self.bind(&node.pat, Names::of(&node.expr));
        visit::visit_expr_for_loop(self, node);
    }

    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        for arm in &node.arms {
            self.bind(&arm.pat, Names::of(&node.expr));
        }
        visit::visit_expr_match(self, node);
    }

    fn visit_field_pat(&mut self, field: &'ast syn::FieldPat) {
        let mut from = Names::default();
        from.fields.insert(member(&field.member));
        self.bind(&field.pat, from);
        visit::visit_field_pat(self, field);
    }
}

/// The fields and variables whose values an expression may lead to.
#[derive(Default)]
struct Names {
    fields: HashSet<String>,
    variables: HashSet<String>,
}

impl Names {
    fn of(expression: &Expr) -> Self {
        let mut names = Names::default();
        names.visit_expr(expression);
        names
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_expr_field(&mut self, field: &'ast ExprField) {
        if variable(&field.base).is_some() {
            self.fields.insert(member(&field.member));
        }
        visit::visit_expr_field(self, field);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let name = path.path.get_ident().map(ToString::to_string);
        self.variables.extend(name);
    }

    // A condition only selects the value.
    fn visit_expr_if(&mut self, node: &'ast syn::ExprIf) {
        self.visit_block(&node.then_branch);
        if let Some((_, otherwise)) = &node.else_branch {
            self.visit_expr(otherwise);
        }
    }

    // The variables of the arms are bindings.
    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        node.arms.iter().for_each(|arm| self.visit_expr(&arm.body));
    }

    // The calls in a closure count on their own.
    fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
}

/// The variables that a pattern declares.
#[derive(Default)]
struct Declared(HashSet<String>);

impl<'ast> Visit<'ast> for Declared {
    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        let name = pattern.ident.to_string();
        // Not a constant, or a variant such as `None`.
        if !name.starts_with(char::is_uppercase) {
            self.0.insert(name);
        }
        visit::visit_pat_ident(self, pattern);
    }
}

/// All identifiers, those in closures too.
#[derive(Default)]
struct AllNames(HashSet<String>);

impl<'ast> Visit<'ast> for AllNames {
    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.0.insert(ident.to_string());
    }
}
