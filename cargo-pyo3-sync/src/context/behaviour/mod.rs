//! What a function does that has to do with threads and the interpreter, in the order in which it stands there: locks it takes and how long
//! their guards live, calls into Python, attaching and detaching, waits, initialisers of cells, calls of other functions of the crate.
//!
//! All rules about behaviour look at these events, and none at syntax. A body is read once, from top to bottom, by an abstract
//! interpreter: it keeps what is so at the place it has come to (is the thread attached, which guards are alive, what do the variables
//! hold), and each event is written down with that.
//!
//! - `events`: the outcome.
//! - `walk`: the order in which expressions are evaluated, and the scopes of variables.
//! - `divergence`: branches that never come to their end.
//! - `function_calls`, `method_calls`, `crate_calls`: what calls do.
//! - `closures`: in which thread a closure runs, and when.
//! - `locks`: which calls take a lock, and which lock that is.
//! - `guards`: how long it is held.
//! - `iterations`, `drops`: what happens to collections of Python objects.
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
    // Patterns among the parameters.
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

/// Reads the initialiser of a static.
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

/// Where the reader of a body has come to, and what is so there.
struct Walker<'i, 'a> {
    index: &'i Index<'a>,
    scope: usize,
    file: usize,
    self_type: Option<String>,
    detaching: &'i HashSet<FunctionId>,
    locals: Locals,
    /// Variables that hold a lock which has an identity: clones of an `Arc`, references.
    locks: HashMap<String, Identity>,
    /// Where what variables hold comes from.
    origins: HashMap<String, Origin>,
    body: Body,
    state: State,
    elsewhere: bool,
    /// How many critical sections it is in.
    critical: usize,
    initialiser: Option<usize>,
    parallel: Option<usize>,
    live: Vec<Live>,
    /// How deep it is in statements, and in blocks.
    statement: usize,
    block: usize,
    /// The guard that a call gave, by the address of the call in the tree.
    given: HashMap<usize, usize>,
    /// What was parsed from macros is kept, so that no address comes twice.
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

    /// As `bind`, and what the variables hold comes from where the whole came from.
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

    /// The function of the crate that a path names.
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
