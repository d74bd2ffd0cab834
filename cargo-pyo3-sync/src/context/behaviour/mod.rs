//! The events of a function that concern threads and the interpreter.
//!
//! Events are acquisitions of locks, calls into Python, attaching and detaching, waits,
//! initializers of cells, and calls of other functions of the crate. Rules about behavior use these
//! events, not syntax.
//!
//! An abstract interpreter reads each body once, from top to bottom. It tracks whether the thread
//! is attached, which guards are alive, and what variables hold, and records this state with each
//! event.
//!
//! - `events`: the events.
//! - `walk`: the order of evaluation, and the scopes of variables.
//! - `divergence`: branches that diverge.
//! - `function_calls`, `method_calls`, `crate_calls`: calls.
//! - `closures`: the time and thread in which a closure runs.
//! - `locks`: calls that acquire a lock, and the identity of the lock.
//! - `guards`: the lifetimes of guards.
//! - `iterations`, `drops`: operations on collections of Python objects.
//! - `detaching`: functions of the crate that detach for their callers.

mod closures;
mod crate_calls;
mod detaching;
mod divergence;
mod drops;
mod events;
mod function_calls;
mod guards;
mod iterations;
mod locks;
mod method_calls;
mod text;
mod walk;

use std::collections::{HashMap, HashSet};

use proc_macro2::Span;
use syn::{Expr, Pat, Stmt, Token, punctuated::Punctuated, visit::Visit};

use super::{
    FunctionId, Index,
    infer::{self, Inference, Locals},
    names::Ty,
};
use crate::finding::Place;

pub use detaching::detaching_helpers;
pub(crate) use divergence::is_panic;
pub use events::{
    Body, Event, Guard, Initialiser, Iteration, Lock, Mode, Operation, Origin, Parallel, State,
    WaitKind,
};
pub use text::text;

use guards::Live;
use locks::Identity;

/// Reads the body of a function.
pub fn of_function(index: &Index<'_>, id: FunctionId, detaching: &HashSet<FunctionId>) -> Body {
    let function = &index.functions[id];
    let mut walker = Walker::new(
        index,
        function.scope,
        function.place.file,
        function.self_type.clone(),
        detaching,
    );
    for (name, ty) in &function.parameters {
        walker.locals.set(name, ty.clone());
        let origin = if name.contains("kwargs") || name == "kwds" || name == "args" {
            Origin::Fresh
        } else {
            Origin::Parameter
        };
        walker.origins.insert(name.clone(), origin);
    }
    // Parameters that are patterns.
    for input in &function.signature.inputs {
        if let syn::FnArg::Typed(parameter) = input
            && !matches!(*parameter.pat, Pat::Ident(_))
        {
            let ty = index.ty(function.scope, &parameter.ty, function.self_type.as_deref());
            walker.bind(&parameter.pat, &ty);
        }
    }
    walker.visit_block(function.body);
    walker.body
}

/// Reads the initializer of a static.
pub fn of_static(index: &Index<'_>, id: usize, detaching: &HashSet<FunctionId>) -> Body {
    let item = &index.statics[id];
    let mut walker = Walker::new(index, item.scope, item.place.file, None, detaching);
    let Some(value) = &item.value else {
        return walker.body;
    };
    if item.ty.is("lazy_static") {
        walker.enter_initialiser("lazy_static!".to_owned(), item.place.span, |walker| {
            walker.visit_expr(value.expression());
        });
    } else {
        walker.visit_expr(value.expression());
    }
    walker.body
}

/// The current position in a body, and the state there.
struct Walker<'i, 'a> {
    index: &'i Index<'a>,
    scope: usize,
    file: usize,
    self_type: Option<String>,
    detaching: &'i HashSet<FunctionId>,
    locals: Locals,
    /// Variables that hold a lock with an identity: clones of an `Arc`, references.
    locks: HashMap<String, Identity>,
    /// The origins of the values of variables.
    origins: HashMap<String, Origin>,
    body: Body,
    state: State,
    elsewhere: bool,
    /// The number of enclosing critical sections.
    critical: usize,
    initialiser: Option<usize>,
    parallel: Option<usize>,
    live: Vec<Live>,
    /// The nesting depth of statements, and of blocks.
    statement: usize,
    block: usize,
    /// Maps the address of a call in the tree to the guard that it returned.
    given: HashMap<usize, usize>,
    /// Trees parsed from macros. Keeping them prevents reuse of addresses.
    parsed: Vec<Parsed>,
}

#[expect(dead_code, reason = "kept, and not read")]
enum Parsed {
    Arguments(Punctuated<Expr, Token![,]>),
    Statements(Vec<Stmt>),
}

impl<'i, 'a> Walker<'i, 'a> {
    fn new(
        index: &'i Index<'a>,
        scope: usize,
        file: usize,
        self_type: Option<String>,
        detaching: &'i HashSet<FunctionId>,
    ) -> Self {
        let mut locals = Locals::default();
        locals.enter();
        Walker {
            index,
            scope,
            file,
            self_type,
            detaching,
            locals,
            locks: HashMap::new(),
            origins: HashMap::new(),
            body: Body::default(),
            state: State::Caller,
            elsewhere: false,
            critical: 0,
            initialiser: None,
            parallel: None,
            live: Vec::new(),
            statement: 0,
            block: 0,
            given: HashMap::new(),
            parsed: Vec::new(),
        }
    }

    fn inference(&self) -> Inference<'_, 'a> {
        Inference {
            index: self.index,
            scope: self.scope,
            self_type: self.self_type.as_deref(),
            locals: &self.locals,
        }
    }

    fn type_of(&self, expression: &Expr) -> Ty {
        self.inference().type_of(expression)
    }

    fn bind(&mut self, pattern: &Pat, ty: &Ty) {
        let (index, scope, self_type) = (self.index, self.scope, self.self_type.clone());
        let within = |locals: &Locals, ty: &Ty, path: &syn::Path, name: &str| {
            Inference {
                index,
                scope,
                self_type: self_type.as_deref(),
                locals,
            }
            .field_in_pattern(ty, path, name)
        };
        let written = |ty: &syn::Type| index.ty(scope, ty, self_type.as_deref());
        infer::bind(&mut self.locals, pattern, ty, &within, &written);
    }

    /// Binds a pattern as `bind` does, with the origin of `whole` for each variable.
    fn bind_part_of(&mut self, pattern: &Pat, whole: &Expr, ty: &Ty) {
        struct Names(Vec<String>);
        impl<'ast> Visit<'ast> for Names {
            fn visit_pat_ident(&mut self, name: &'ast syn::PatIdent) {
                self.0.push(name.ident.to_string());
            }
        }
        self.bind(pattern, ty);
        let origin = self.origin(whole);
        let mut names = Names(Vec::new());
        names.visit_pat(pattern);
        for name in names.0 {
            self.origins.insert(name, origin);
        }
    }

    /// Returns the function of the crate that a path names.
    fn callee(&self, path: &syn::Path) -> Option<FunctionId> {
        self.index
            .callee(self.scope, path, self.self_type.as_deref())
    }

    fn is_variable(&self, expression: &Expr) -> bool {
        let Expr::Path(path) = expression else {
            return false;
        };
        path.path
            .get_ident()
            .is_some_and(|name| self.locals.get(&name.to_string()).is_some())
    }

    fn place(&self, span: Span) -> Place {
        Place {
            file: self.file,
            span,
        }
    }

    fn emit(&mut self, operation: Operation, span: Span) {
        self.body.events.push(Event {
            operation,
            place: self.place(span),
            state: self.state,
            held: self.live.iter().map(|live| live.guard).collect(),
            initialiser: self.initialiser,
            parallel: self.parallel,
            elsewhere: self.elsewhere,
            in_critical_section: self.critical > 0,
        });
    }
}
