//! The walk over a body, in the order of evaluation.
//!
//! It covers scopes of variables, ends of statements, branches and loops. `function_calls` and
//! `method_calls` handle calls.

use syn::{
    Expr, Pat, Stmt, Token,
    parse::Parser,
    punctuated::Punctuated,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{
    Operation, Parsed, WaitKind, Walker,
    divergence::{diverges, expression_diverges},
    guards::Branch,
    locks::Identity,
};
use crate::context::{index::carries_token, infer::element, names::Ty};

impl<'ast> Visit<'ast> for Walker<'_, '_> {
    /// Skips items within functions, which the index lists as functions of their own.
    fn visit_item(&mut self, _: &'ast syn::Item) {}

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.block += 1;
        self.locals.enter();
        for statement in &block.stmts {
            self.visit_stmt(statement);
        }
        self.locals.leave();
        self.release_block(self.block);
        self.block -= 1;
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        match statement {
            Stmt::Expr(expression, semicolon) => self.within_statement(|walker| {
                walker.visit_expr(expression);
                if semicolon.is_some() {
                    walker.drops_in_statement(expression);
                }
            }),
            other => self.within_statement(|walker| visit::visit_stmt(walker, other)),
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        let Some(init) = &local.init else {
            self.bind(&local.pat, &Ty::unknown());
            return;
        };
        self.visit_expr(&init.expr);
        if let Some((_, otherwise)) = &init.diverge {
            let live = self.live.clone();
            self.visit_expr(otherwise);
            self.live = live;
        }
        let ty = self.type_of(&init.expr);
        let origin = self.origin(&init.expr);
        self.bind(&local.pat, &ty);
        let Some(name) = variable(&local.pat) else {
            return;
        };
        if let Some(guard) = self.guard_of(&init.expr) {
            self.give_to_variable(guard, &name);
        } else {
            let is_lock = matches!(ty.peeled().last(), "Mutex" | "RwLock");
            let identity = if is_lock {
                self.identity(&init.expr)
            } else {
                Identity::default()
            };
            if identity.lock.is_some() {
                self.locks.insert(name.clone(), identity);
            } else {
                self.locks.remove(&name);
            }
            self.origins.insert(name, origin);
        }
    }

    fn visit_expr_assign(&mut self, assign: &'ast syn::ExprAssign) {
        self.visit_expr(&assign.left);
        self.visit_expr(&assign.right);
        if let (Expr::Path(variable), Some(guard)) = (&*assign.left, self.guard_of(&assign.right))
            && let Some(name) = variable.path.get_ident()
        {
            self.give_to_variable(guard, &name.to_string());
        }
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let Some(id) = self.initialiser else { return };
        let Some(name) = path.path.get_ident() else {
            return;
        };
        let is_token = self
            .locals
            .get(&name.to_string())
            .is_some_and(carries_token);
        if is_token && self.body.initialisers[id].token.is_none() {
            self.body.initialisers[id].token = Some(self.place(name.span()));
        }
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        match &*expression.base {
            Expr::MethodCall(call) => self.call_method(call, true, false),
            other => self.visit_expr(other),
        }
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.on_another_thread(|walker| walker.visit_block(&block.block));
    }

    /// Walks a stored closure. It may be called after this function has released its guards.
    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        let live = std::mem::take(&mut self.live);
        self.closure(closure, &[]);
        self.live = live;
    }

    fn visit_expr_try(&mut self, expression: &'ast syn::ExprTry) {
        match &*expression.expr {
            Expr::MethodCall(call) => self.call_method(call, false, true),
            other => self.visit_expr(other),
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.call_method(call, false, false);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        match &*call.func {
            Expr::Path(path) => self.call_function(call, &path.path),
            other => {
                self.visit_expr(other);
                self.visit_all(&call.args);
            }
        }
    }

    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        let keeps = has_let(&branch.cond);
        self.statement += 1;
        let depth = self.statement;
        self.locals.enter();
        self.visit_expr(&branch.cond);
        if !keeps {
            self.release_statement(depth);
        }
        let then = Box::new(|walker: &mut Self| {
            walker.visit_block(&branch.then_branch);
            walker.release_statement(depth);
            !diverges(&branch.then_branch)
        });
        let otherwise = Box::new(|walker: &mut Self| {
            walker.release_statement(depth);
            match &branch.else_branch {
                Some((_, other)) => {
                    walker.visit_expr(other);
                    !expression_diverges(other)
                }
                None => true,
            }
        });
        self.branches(vec![then, otherwise]);
        self.locals.leave();
        self.statement -= 1;
    }

    fn visit_expr_let(&mut self, expression: &'ast syn::ExprLet) {
        self.visit_expr(&expression.expr);
        let ty = self.type_of(&expression.expr);
        self.bind_part_of(&expression.pat, &expression.expr, &ty);
    }

    fn visit_expr_match(&mut self, branches: &'ast syn::ExprMatch) {
        self.visit_expr(&branches.expr);
        let ty = self.type_of(&branches.expr);
        let arms = branches
            .arms
            .iter()
            .map(|arm| {
                let ty = ty.clone();
                let branch: Branch<'_, Self> = Box::new(move |walker: &mut Self| {
                    walker.locals.enter();
                    walker.bind_part_of(&arm.pat, &branches.expr, &ty);
                    if let Some((_, guard)) = &arm.guard {
                        walker.visit_expr(guard);
                    }
                    walker.visit_expr(&arm.body);
                    walker.locals.leave();
                    !expression_diverges(&arm.body)
                });
                branch
            })
            .collect();
        self.branches(arms);
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        self.within_statement(|walker| {
            let depth = walker.statement;
            walker.locals.enter();
            walker.visit_expr(&expression.cond);
            if !has_let(&expression.cond) {
                walker.release_statement(depth);
            }
            walker.visit_block(&expression.body);
            walker.locals.leave();
        });
    }

    fn visit_expr_for_loop(&mut self, expression: &'ast syn::ExprForLoop) {
        self.within_statement(|walker| {
            walker.visit_expr(&expression.expr);
            let ty = walker.type_of(&expression.expr);
            let peeled = ty.peeled().clone();
            let collection = match &*expression.expr {
                Expr::MethodCall(call) if call.method == "iter" => None,
                other => Some(other),
            };
            if let Some(collection) = collection {
                walker.iterates(collection, &peeled, expression.expr.span(), false);
                if matches!(peeled.last(), "Receiver") {
                    walker.emit(
                        Operation::Wait(WaitKind::Receive, "for".to_owned()),
                        expression.expr.span(),
                    );
                }
            }
            walker.locals.enter();
            let item = element(&peeled);
            walker.bind(&expression.pat, &item);
            walker.visit_block(&expression.body);
            walker.locals.leave();
        });
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let Some(name) = mac.path.segments.last().map(|last| last.ident.to_string()) else {
            return;
        };
        if matches!(
            name.as_str(),
            "thread_local" | "lazy_static" | "macro_rules" | "quote" | "stringify"
        ) {
            return;
        }
        let parser = Punctuated::<Expr, Token![,]>::parse_terminated;
        if let Ok(arguments) = parser.parse2(mac.tokens.clone()) {
            for argument in &arguments {
                Visit::visit_expr(self, argument);
            }
            self.parsed.push(Parsed::Arguments(arguments));
        } else if let Ok(block) = syn::Block::parse_within.parse2(mac.tokens.clone()) {
            for statement in &block {
                Visit::visit_stmt(self, statement);
            }
            self.parsed.push(Parsed::Statements(block));
        }
    }
}

/// Returns the variable that a guard is bound to.
fn variable(pattern: &Pat) -> Option<String> {
    match pattern {
        Pat::Ident(name) => Some(name.ident.to_string()),
        Pat::Type(typed) => match &*typed.pat {
            Pat::Ident(name) => Some(name.ident.to_string()),
            _ => None,
        },
        // `let Ok(guard) = lock.lock() else { .. }`.
        Pat::TupleStruct(tuple) => match tuple.elems.first() {
            Some(Pat::Ident(name)) => Some(name.ident.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns `true` if the temporaries of a condition live to the end of the branch.
fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(inner) => has_let(&inner.expr),
        _ => false,
    }
}
