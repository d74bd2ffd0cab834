//! Parts of a function that exclude each other, and parts that a loop repeats.

use syn::{Expr, Lifetime, Stmt};

use crate::context::is_panic;

/// The place of a walk in the control flow of a function.
pub(super) struct Paths<'a> {
    /// The scopes around, starting with the function.
    scopes: Vec<Scope<'a>>,
    path: Path,
    decisions: usize,
}

#[derive(Clone, Copy)]
struct Scope<'a> {
    kind: ScopeKind,
    label: Option<&'a Lifetime>,
    /// A loop that the walk has not left.
    repeats: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeKind {
    /// A function, a closure or an `async` block.
    Body,
    Loop,
    Block,
}

/// The branches that lead to an expression.
#[derive(Clone, Default)]
pub(super) struct Path(Vec<Branch>);

#[derive(Clone, Copy)]
struct Branch {
    decision: usize,
    arm: usize,
    /// The index of the scope at whose end the branches of the decision join.
    joined_after: usize,
}

impl Path {
    pub(super) fn excludes(&self, other: &Path) -> bool {
        self.0.iter().any(|branch| {
            let mut others = other.0.iter();
            others.any(|other| other.decision == branch.decision && other.arm != branch.arm)
        })
    }
}

/// The scope that a diverging expression leaves. The innermost one is the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exit {
    scope: usize,
    /// `true` for `continue`.
    repeats: bool,
}

/// A visitor that keeps its place up to date.
pub(super) trait Walk<'a>: Sized {
    fn paths(&mut self) -> &mut Paths<'a>;

    fn in_scope(
        &mut self,
        kind: ScopeKind,
        label: Option<&'a syn::Label>,
        inside: impl FnOnce(&mut Self),
    ) {
        let scope = Scope {
            kind,
            label: label.map(|label| &label.name),
            repeats: kind == ScopeKind::Loop,
        };
        self.paths().scopes.push(scope);
        inside(self);
        let paths = self.paths();
        paths.scopes.pop();
        let depth = paths.scopes.len();
        paths.path.0.retain(|branch| branch.joined_after < depth);
    }

    /// Walks one arm of a decision.
    fn in_arm(
        &mut self,
        decision: usize,
        arm: usize,
        exit: Option<Exit>,
        inside: impl FnOnce(&mut Self),
    ) {
        let branch = Branch {
            decision,
            arm,
            joined_after: 0,
        };
        self.paths().path.0.push(branch);
        match exit {
            Some(exit) => self.until_exit(exit, inside),
            None => inside(self),
        }
        let path = &mut self.paths().path.0;
        path.retain(|branch| branch.decision != decision);
    }

    /// Walks code that ends with an exit. The rest of the scope that it leaves excludes it.
    fn until_exit(&mut self, exit: Exit, inside: impl FnOnce(&mut Self)) {
        let paths = self.paths();
        let decision = paths.decide();
        let mut branch = Branch {
            decision,
            arm: 0,
            joined_after: exit.scope,
        };
        paths.path.0.push(branch);
        let scopes = paths.scopes.clone();
        for (number, scope) in paths.scopes.iter_mut().enumerate() {
            let is_left = number > exit.scope || number == exit.scope && !exit.repeats;
            scope.repeats = scope.kind == ScopeKind::Loop && !is_left;
        }
        inside(self);
        let paths = self.paths();
        paths.scopes = scopes;
        paths.path.0.retain(|branch| branch.decision != decision);
        branch.arm = 1;
        paths.path.0.push(branch);
    }
}

impl Paths<'_> {
    pub(super) fn new() -> Self {
        let function = Scope {
            kind: ScopeKind::Body,
            label: None,
            repeats: false,
        };
        Paths {
            scopes: vec![function],
            path: Path::default(),
            decisions: 0,
        }
    }

    pub(super) fn path(&self) -> Path {
        self.path.clone()
    }

    pub(super) fn depth(&self) -> usize {
        self.scopes.len()
    }

    /// Returns whether a loop repeats this place within the scope of the given depth.
    pub(super) fn is_repeated_within(&self, depth: usize) -> bool {
        self.scopes.iter().skip(depth).any(|scope| scope.repeats)
    }

    /// Returns the number of a new decision.
    pub(super) fn decide(&mut self) -> usize {
        self.decisions += 1;
        self.decisions
    }

    /// Returns the exit that the last statement of a block always takes.
    pub(super) fn exit_of_block(&self, block: &syn::Block) -> Option<Exit> {
        match block.stmts.last()? {
            Stmt::Expr(last, _) => self.exit_of(last),
            Stmt::Macro(last) if is_panic(&last.mac) => self.exit_of_body(),
            _ => None,
        }
    }

    pub(super) fn exit_of(&self, expression: &Expr) -> Option<Exit> {
        match expression {
            Expr::Return(_) => self.exit_of_body(),
            Expr::Break(node) => self.exit_to(node.label.as_ref(), false),
            Expr::Continue(node) => self.exit_to(node.label.as_ref(), true),
            Expr::Macro(node) if is_panic(&node.mac) => self.exit_of_body(),
            Expr::Try(node) if is_error(&node.expr) => self.exit_of_body(),
            Expr::Block(node) if node.label.is_none() => self.exit_of_block(&node.block),
            Expr::Unsafe(node) => self.exit_of_block(&node.block),
            Expr::If(node) => {
                let (_, otherwise) = node.else_branch.as_ref()?;
                let exit = self.exit_of_block(&node.then_branch)?;
                Some(exit.max(self.exit_of(otherwise)?))
            }
            Expr::Match(node) => {
                let exits = node.arms.iter().map(|arm| self.exit_of(&arm.body));
                exits.reduce(|first, second| Some(first?.max(second?)))?
            }
            _ => None,
        }
    }

    fn exit_of_body(&self) -> Option<Exit> {
        let mut scopes = self.scopes.iter();
        let scope = scopes.rposition(|scope| scope.kind == ScopeKind::Body)?;
        Some(Exit {
            scope,
            repeats: false,
        })
    }

    fn exit_to(&self, label: Option<&Lifetime>, repeats: bool) -> Option<Exit> {
        let mut scopes = self.scopes.iter();
        let scope = scopes.rposition(|scope| match label {
            Some(_) => scope.label == label,
            None => scope.kind == ScopeKind::Loop,
        })?;
        Some(Exit { scope, repeats })
    }
}

fn is_error(expression: &Expr) -> bool {
    matches!(expression, Expr::Call(call)
        if matches!(&*call.func, Expr::Path(path) if path.path.is_ident("Err")))
}
