//! Lifetimes of guards.
//!
//! The rules are those of the Rust reference under "destructors". The guard that a call returns is
//! a temporary, which is dropped at the end of its statement. If a variable is bound to it, the
//! guard lives until the end of the variable, or until it is moved or dropped. `guard_of` follows
//! the guard through `unwrap()` and similar methods.

use proc_macro2::Span;
use syn::Expr;

use super::{Guard, Lock, Operation, Walker};

/// A guard that is alive.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) guard: usize,
    owner: Owner,
}

#[derive(Clone)]
enum Owner {
    /// A temporary of the statement at this depth.
    Statement(usize),
    /// A variable of the block at this depth.
    Variable(String, usize),
}

/// Walks a branch. Returns `true` unless the branch diverges.
pub(super) type Branch<'b, W> = Box<dyn FnOnce(&mut W) -> bool + 'b>;

/// Methods of the result of `lock()` that return the guard.
const PASSES: [&str; 11] = [
    "unwrap",
    "expect",
    "unwrap_or_else",
    "map_err",
    "ok",
    "ok_or",
    "ok_or_else",
    "or_else",
    "into_inner",
    "context",
    "with_context",
];

impl Walker<'_, '_> {
    /// Records the acquisition of a lock. The call at `address` has the guard as its value.
    pub(super) fn acquire(&mut self, lock: Lock, span: Span, address: usize) {
        let id = self.body.guards.len();
        self.body.guards.push(Guard {
            lock,
            place: self.place(span),
            name: None,
        });
        self.emit(Operation::Acquire(id), span);
        self.live.push(Live {
            guard: id,
            owner: Owner::Statement(self.statement),
        });
        self.given.insert(address, id);
    }

    /// Returns the guard that is the value of an expression.
    pub(super) fn guard_of(&self, expression: &Expr) -> Option<usize> {
        match expression {
            Expr::MethodCall(call) => {
                if let Some(id) = self.given.get(&address(call)) {
                    return Some(*id);
                }
                if PASSES.contains(&call.method.to_string().as_str()) {
                    self.guard_of(&call.receiver)
                } else {
                    None
                }
            }
            Expr::Call(call) => {
                if let Some(id) = self.given.get(&address(call)) {
                    return Some(*id);
                }
                // `MutexGuard::map(guard, ..)`.
                let Expr::Path(path) = &*call.func else {
                    return None;
                };
                let is_map = path
                    .path
                    .segments
                    .last()
                    .is_some_and(|last| last.ident.to_string().ends_with("map"))
                    && path
                        .path
                        .segments
                        .iter()
                        .any(|segment| segment.ident.to_string().ends_with("Guard"));
                if is_map {
                    self.guard_of(call.args.first()?)
                } else {
                    None
                }
            }
            Expr::Try(inner) => self.guard_of(&inner.expr),
            Expr::Paren(inner) => self.guard_of(&inner.expr),
            // `let x = &mut *lock.lock().unwrap()`: the temporary lives as long as the variable.
            Expr::Reference(inner) => self.extended(&inner.expr),
            // `match lock.lock() { Ok(guard) => guard, Err(poisoned) => poisoned.into_inner() }`.
            Expr::Match(inner) => {
                let id = self.guard_of(&inner.expr)?;
                let gives_it = inner.arms.iter().any(|arm| match &*arm.body {
                    Expr::Path(path) => path.path.get_ident().is_some(),
                    Expr::MethodCall(call) => call.method == "into_inner",
                    _ => false,
                });
                gives_it.then_some(id)
            }
            Expr::Path(path) => {
                let name = path.path.get_ident()?.to_string();
                self.position(&name)
                    .map(|position| self.live[position].guard)
            }
            _ => None,
        }
    }

    /// Returns the guard whose lifetime is extended by a reference into it.
    fn extended(&self, expression: &Expr) -> Option<usize> {
        match expression {
            Expr::Unary(unary) => self.extended(&unary.expr),
            Expr::Field(field) => self.extended(&field.base),
            Expr::Paren(inner) => self.extended(&inner.expr),
            other => self.guard_of(other),
        }
    }

    /// Returns the index in `live` of the guard in this variable.
    fn position(&self, name: &str) -> Option<usize> {
        self.live.iter().rposition(
            |live| matches!(&live.owner, Owner::Variable(variable, _) if variable == name),
        )
    }

    /// Returns the variable with a guard that an argument moves.
    pub(super) fn variable_guard(&self, argument: &Expr) -> Option<String> {
        let Expr::Path(path) = argument else {
            return None;
        };
        let name = path.path.get_ident()?.to_string();
        self.position(&name).is_some().then_some(name)
    }

    pub(super) fn give_to_variable(&mut self, guard: usize, name: &str) {
        let block = self.block;
        if let Some(live) = self.live.iter_mut().find(|live| live.guard == guard) {
            live.owner = Owner::Variable(name.to_owned(), block);
        }
        self.body.guards[guard].name = Some(name.to_owned());
    }

    /// Releases the guard in a variable. Returns `true` if there was one.
    pub(super) fn release_variable(&mut self, name: &str) -> bool {
        let position = self.position(name);
        if let Some(position) = position {
            self.live.remove(position);
        }
        position.is_some()
    }

    pub(super) fn release_variables(&mut self, names: &[String]) {
        for name in names {
            self.release_variable(name);
        }
    }

    pub(super) fn release_statement(&mut self, statement: usize) {
        self.live
            .retain(|live| !matches!(live.owner, Owner::Statement(depth) if depth >= statement));
    }

    pub(super) fn release_block(&mut self, block: usize) {
        self.live
            .retain(|live| !matches!(live.owner, Owner::Variable(_, depth) if depth >= block));
    }

    /// Walks the branches of an `if` or `match`, each from the same start.
    ///
    /// A guard is alive afterwards if it is alive at the end of any branch.
    pub(super) fn branches(&mut self, branches: Vec<Branch<'_, Self>>) {
        let before = self.live.clone();
        let mut after: Vec<Live> = Vec::new();
        for branch in branches {
            self.live = before.clone();
            let goes_on = branch(self);
            if goes_on {
                for live in &self.live {
                    if !after.iter().any(|other| other.guard == live.guard) {
                        after.push(live.clone());
                    }
                }
            }
        }
        self.live = after;
    }

    /// Walks a statement and drops its temporaries at the end.
    pub(super) fn within_statement(&mut self, inside: impl FnOnce(&mut Self)) {
        self.statement += 1;
        let depth = self.statement;
        let iterations = self.body.iterations.len();
        inside(self);
        self.end_iterations(iterations);
        self.release_statement(depth);
        self.statement -= 1;
    }
}

/// Returns the address of a node, which identifies a call.
pub(super) fn address<T>(node: &T) -> usize {
    std::ptr::from_ref(node) as usize
}
