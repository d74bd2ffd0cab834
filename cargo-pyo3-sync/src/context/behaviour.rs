//! What a function does that has to do with threads and the interpreter, in the order in which it stands there: locks it takes and how long
//! their guards live, calls into Python, attaching and detaching, waits, initialisers of cells, calls of other functions of the crate.
//!
//! All rules about behaviour look at these events, and none at syntax.

use std::collections::{HashMap, HashSet};

use syn::{
    Expr, Pat, Stmt, Token,
    parse::Parser,
    punctuated::Punctuated,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{
    FunctionId, Index,
    index::carries_token,
    infer::{Inference, Locals, bind, element},
    names::Ty,
    python,
};
use crate::finding::Place;

/// Whether the thread is attached, at some point of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As its caller is.
    Caller,
    Attached,
    Detached,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Lock,
    Read,
    Write,
}

/// A lock that does not know of the interpreter, being taken.
#[derive(Debug, Clone)]
pub struct Lock {
    /// `std::Mutex`, `parking_lot::RwLock`, ..; empty if only its methods tell that it is a lock.
    pub ty: String,
    pub mode: Mode,
    /// `Type.field` or `STATIC`: equal for what can be the same lock.
    pub identity: Option<String>,
    /// The expression in front of the field: `self`, `other`.
    pub instance: Option<String>,
    /// Taken with `lock_py_attached` or our `lock_attached`, or tried: nobody waits attached here.
    pub never_waits_attached: bool,
    /// What it protects.
    pub content: Ty,
}

#[derive(Debug)]
pub struct Guard {
    pub lock: Lock,
    pub place: Place,
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitKind {
    Receive,
    Join,
    Barrier,
    Condvar,
    BlockOn,
    Sleep,
    Process,
    Network,
}

#[derive(Debug, Clone)]
pub enum Operation {
    /// Takes a lock: an index into the body's guards.
    Acquire(usize),
    /// Runs, or may run, Python code; or gives others the GIL.
    Python(String),
    Attach,
    Detach,
    Wait(WaitKind, String),
    Call(FunctionId),
    /// Calls, or mentions, a function of the C interface.
    Ffi(String),
    /// Drops a reference to an object, which may run its `__del__`.
    DropsObject(String),
    /// Iterates over a `PyDict`, `PySet` or `PyList`.
    Iterate {
        ty: String,
        origin: Origin,
    },
}

/// Where a collection that is iterated over comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made here, and nobody has seen it.
    Fresh,
    /// Given by the caller.
    Parameter,
    /// A field, a static, an attribute of another object: others can get at it as well.
    Shared,
    Unknown,
}

#[derive(Debug)]
pub struct Event {
    pub operation: Operation,
    pub place: Place,
    pub state: State,
    /// The guards that are alive.
    pub held: Vec<usize>,
    /// The initialiser it is in.
    pub initialiser: Option<usize>,
    /// The parallel iteration it is in.
    pub parallel: Option<usize>,
    /// In a closure that another thread runs.
    pub elsewhere: bool,
    pub in_critical_section: bool,
}

/// A closure given to a cell of `std` or `once_cell`, or to a `LazyLock`.
#[derive(Debug)]
pub struct Initialiser {
    pub cell: String,
    pub place: Place,
    pub state: State,
    /// The first use of a token in it.
    pub token: Option<Place>,
    pub held_outside: bool,
}

/// A closure that other threads run while this one waits for it: Rayon's.
#[derive(Debug)]
pub struct Parallel {
    pub place: Place,
    pub state: State,
    pub what: String,
}

/// A `PyDict`, `PySet` or `PyList` that is iterated over.
#[derive(Debug)]
pub struct Iteration {
    pub class: String,
    pub origin: Origin,
    pub place: Place,
    pub in_critical_section: bool,
    /// What happens in the course of it.
    pub events: std::ops::Range<usize>,
}

#[derive(Debug, Default)]
pub struct Body {
    pub iterations: Vec<Iteration>,
    pub events: Vec<Event>,
    pub guards: Vec<Guard>,
    pub initialisers: Vec<Initialiser>,
    pub parallels: Vec<Parallel>,
}

/// Functions of the crate that run a closure they are given detached.
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

struct Live {
    guard: usize,
    owner: Owner,
}

#[derive(Clone, PartialEq)]
enum Owner {
    /// A temporary of the statement at this depth.
    Statement(usize),
    /// A variable of the block at this depth.
    Variable(String, usize),
}

impl Clone for Live {
    fn clone(&self) -> Self {
        Live {
            guard: self.guard,
            owner: self.owner.clone(),
        }
    }
}

/// Walks a branch, and says whether it comes to its end.
type Branch<'b, W> = Box<dyn FnOnce(&mut W) -> bool + 'b>;

struct Walker<'i, 'a> {
    index: &'i Index<'a>,
    scope: usize,
    file: usize,
    self_type: Option<String>,
    detaching: &'i HashSet<FunctionId>,
    locals: Locals,
    /// Variables that hold a lock which has an identity: clones of an `Arc`, references.
    locks: HashMap<String, (Option<String>, Option<String>)>,
    /// Where what variables hold comes from.
    origins: HashMap<String, Origin>,
    body: Body,
    state: State,
    elsewhere: bool,
    critical: usize,
    initialiser: Option<usize>,
    parallel: Option<usize>,
    live: Vec<Live>,
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
        bind(&mut self.locals, pattern, ty, &within, &written);
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

    fn emit(&mut self, operation: Operation, span: proc_macro2::Span) {
        self.body.events.push(Event {
            operation,
            place: Place {
                file: self.file,
                span,
            },
            state: self.state,
            held: self.live.iter().map(|live| live.guard).collect(),
            initialiser: self.initialiser,
            parallel: self.parallel,
            elsewhere: self.elsewhere,
            in_critical_section: self.critical > 0,
        });
    }

    // ---- closures -------------------------------------------------------------------------------------------------

    /// Walks something in another state, without letting guards that are taken in it out.
    fn in_state(&mut self, state: State, inside: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.state, state);
        let live = self.live.clone();
        inside(self);
        self.live = live;
        self.state = outer;
    }

    /// Walks what another thread runs.
    fn on_another_thread(&mut self, inside: impl FnOnce(&mut Self)) {
        let state = std::mem::replace(&mut self.state, State::Detached);
        let live = std::mem::take(&mut self.live);
        let elsewhere = std::mem::replace(&mut self.elsewhere, true);
        let initialiser = self.initialiser.take();
        inside(self);
        self.initialiser = initialiser;
        self.elsewhere = elsewhere;
        self.live = live;
        self.state = state;
    }

    /// A closure that is kept, and called when nothing of this function is held any more.
    fn stored(&mut self, closure: &syn::ExprClosure) {
        let live = std::mem::take(&mut self.live);
        let elsewhere = std::mem::replace(&mut self.elsewhere, true);
        let initialiser = self.initialiser.take();
        self.closure(closure, &[]);
        self.initialiser = initialiser;
        self.elsewhere = elsewhere;
        self.live = live;
    }

    fn enter_initialiser(
        &mut self,
        cell: String,
        span: proc_macro2::Span,
        inside: impl FnOnce(&mut Self),
    ) {
        let id = self.body.initialisers.len();
        self.body.initialisers.push(Initialiser {
            cell,
            place: Place {
                file: self.file,
                span,
            },
            state: self.state,
            token: None,
            held_outside: !self.live.is_empty(),
        });
        let outer = self.initialiser.replace(id);
        let state = self.state;
        self.in_state(state, inside);
        self.initialiser = outer;
    }

    fn closure(&mut self, closure: &syn::ExprClosure, parameters: &[Ty]) {
        self.locals.enter();
        let mut state = self.state;
        for (number, pattern) in closure.inputs.iter().enumerate() {
            let mut ty = parameters.get(number).cloned().unwrap_or_default();
            if let Pat::Ident(name) = pattern
                && name.ident == "py"
                && ty.is_unknown()
            {
                ty = Ty::named("pyo3::Python");
            }
            self.bind(pattern, &ty);
            let known = match pattern {
                Pat::Type(typed) => self
                    .index
                    .ty(self.scope, &typed.ty, self.self_type.as_deref()),
                _ => ty,
            };
            if known.is("pyo3::Python") {
                state = State::Attached;
            }
        }
        self.in_state(state, |walker| walker.visit_expr(&closure.body));
        self.locals.leave();
    }

    /// An argument that is called: a closure, or the name of a function.
    fn callable(&mut self, argument: &Expr, parameters: &[Ty]) {
        match argument {
            Expr::Closure(closure) => self.closure(closure, parameters),
            Expr::Path(path) => {
                if let Some(id) =
                    self.index
                        .callee(self.scope, &path.path, self.self_type.as_deref())
                {
                    self.emit(Operation::Call(id), path.span());
                }
            }
            other => self.visit_expr(other),
        }
    }

    // ---- guards ---------------------------------------------------------------------------------------------------

    fn acquire(&mut self, lock: Lock, span: proc_macro2::Span, address: usize) {
        let id = self.body.guards.len();
        self.body.guards.push(Guard {
            lock,
            place: Place {
                file: self.file,
                span,
            },
            name: None,
        });
        self.emit(Operation::Acquire(id), span);
        self.live.push(Live {
            guard: id,
            owner: Owner::Statement(self.statement),
        });
        self.given.insert(address, id);
    }

    /// The guard that an expression gives, if it gives one.
    fn guard_of(&self, expression: &Expr) -> Option<usize> {
        match expression {
            Expr::MethodCall(call) => {
                if let Some(id) = self.given.get(&address(call)) {
                    return Some(*id);
                }
                let passes = matches!(
                    call.method.to_string().as_str(),
                    "unwrap"
                        | "expect"
                        | "unwrap_or_else"
                        | "map_err"
                        | "ok"
                        | "ok_or"
                        | "ok_or_else"
                        | "or_else"
                        | "into_inner"
                        | "context"
                        | "with_context"
                );
                if passes {
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
                let live = self.live.iter().rev().find(
                    |live| matches!(&live.owner, Owner::Variable(variable, _) if *variable == name),
                );
                live.map(|live| live.guard)
            }
            _ => None,
        }
    }

    fn extended(&self, expression: &Expr) -> Option<usize> {
        match expression {
            Expr::Unary(unary) => self.extended(&unary.expr),
            Expr::Field(field) => self.extended(&field.base),
            Expr::Paren(inner) => self.extended(&inner.expr),
            other => self.guard_of(other),
        }
    }

    fn give_to_variable(&mut self, guard: usize, name: &str) {
        let block = self.block;
        if let Some(live) = self.live.iter_mut().find(|live| live.guard == guard) {
            live.owner = Owner::Variable(name.to_owned(), block);
        }
        self.body.guards[guard].name = Some(name.to_owned());
    }

    fn release_variable(&mut self, name: &str) -> bool {
        let position = self.live.iter().rposition(
            |live| matches!(&live.owner, Owner::Variable(variable, _) if variable == name),
        );
        if let Some(position) = position {
            self.live.remove(position);
        }
        position.is_some()
    }

    fn release_statement(&mut self, statement: usize) {
        self.live
            .retain(|live| !matches!(live.owner, Owner::Statement(depth) if depth >= statement));
    }

    /// Walks the branches of an `if` or `match`, each from the same start; alive afterwards is what is alive at the end of any of them.
    fn branches(&mut self, branches: Vec<Branch<'_, Self>>) {
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

    fn within_statement(&mut self, inside: impl FnOnce(&mut Self)) {
        self.statement += 1;
        let depth = self.statement;
        let iterations = self.body.iterations.len();
        inside(self);
        self.end_iterations(iterations);
        self.release_statement(depth);
        self.statement -= 1;
    }

    // ---- locks ----------------------------------------------------------------------------------------------------

    fn identity(&self, expression: &Expr) -> (Option<String>, Option<String>) {
        match expression {
            Expr::Field(field) => {
                let base = self.type_of(&field.base);
                let name = match &field.member {
                    syn::Member::Named(name) => name.to_string(),
                    syn::Member::Unnamed(index) => index.index.to_string(),
                };
                let owner = base.peeled().local().map(ToOwned::to_owned);
                (
                    owner.map(|owner| format!("{owner}.{name}")),
                    Some(text(&field.base)),
                )
            }
            Expr::Path(path) => {
                let Some(last) = path.path.segments.last() else {
                    return (None, None);
                };
                let name = last.ident.to_string();
                let is_local = path.path.get_ident().is_some() && self.locals.get(&name).is_some();
                if let Some(known) = self.locks.get(&name).filter(|_| is_local) {
                    return known.clone();
                }
                if !is_local && self.index.static_named(&name, self.file).is_some() {
                    (Some(name), None)
                } else {
                    (None, None)
                }
            }
            Expr::Reference(inner) => self.identity(&inner.expr),
            Expr::Paren(inner) => self.identity(&inner.expr),
            Expr::Unary(inner) => self.identity(&inner.expr),
            Expr::MethodCall(call) if call.args.is_empty() => self.identity(&call.receiver),
            // `Arc::clone(&lock)`.
            Expr::Call(call) if call.args.len() == 1 && text(&call.func).ends_with("::clone") => {
                call.args
                    .first()
                    .map_or((None, None), |first| self.identity(first))
            }
            _ => (None, None),
        }
    }

    /// The lock that a method call takes, if it takes one.
    fn lock_taken(
        &self,
        call: &syn::ExprMethodCall,
        receiver: &Ty,
        unwrapped: bool,
    ) -> Option<Lock> {
        let method = call.method.to_string();
        let (mode, aware) = match method.as_str() {
            "lock" | "lock_arc" => (Mode::Lock, false),
            "read" | "read_arc" | "upgradable_read" | "read_recursive" => (Mode::Read, false),
            "write" | "write_arc" => (Mode::Write, false),
            "try_lock" | "try_lock_for" | "try_lock_until" => (Mode::Lock, true),
            "try_read" | "try_read_for" => (Mode::Read, true),
            "try_write" | "try_write_for" => (Mode::Write, true),
            "lock_py_attached" | "lock_attached" => (Mode::Lock, true),
            "read_py_attached" | "read_attached" => (Mode::Read, true),
            "write_py_attached" | "write_attached" => (Mode::Write, true),
            "blocking_lock" => (Mode::Lock, false),
            "blocking_read" => (Mode::Read, false),
            "blocking_write" => (Mode::Write, false),
            _ => return None,
        };
        let peeled = receiver.peeled();
        let known = matches!(
            (peeled.name.as_str(), mode),
            (
                "std::Mutex"
                    | "parking_lot::Mutex"
                    | "parking_lot::FairMutex"
                    | "parking_lot::ReentrantMutex",
                Mode::Lock
            ) | (
                "std::RwLock" | "parking_lot::RwLock",
                Mode::Read | Mode::Write
            )
        );
        let is_tokio = peeled.name.starts_with("tokio::") && method.starts_with("blocking_");
        // Of an unknown type: `.lock().unwrap()` without arguments is a mutex of `std`.
        let looks_like_it = peeled.is_unknown() && call.args.is_empty() && unwrapped && !aware;
        if !known && !is_tokio && !looks_like_it {
            return None;
        }
        let (identity, instance) = self.identity(&call.receiver);
        Some(Lock {
            ty: peeled.name.clone(),
            mode,
            identity,
            instance,
            never_waits_attached: aware,
            content: peeled.argument(0),
        })
    }

    // ---- calls ----------------------------------------------------------------------------------------------------

    fn call_function(&mut self, call: &syn::ExprCall, path: &syn::Path) {
        let name = path
            .segments
            .last()
            .map(|last| last.ident.to_string())
            .unwrap_or_default();
        // Not a path of its own for what is called with full name.
        let (owner, full) = self.inference().owner(path);
        let is = |module: &str| owner.is(module);
        if name == "drop" && call.args.len() == 1 {
            if let Some(Expr::Path(dropped)) = call.args.first()
                && let Some(variable) = dropped.path.get_ident().map(ToString::to_string)
                && self.release_variable(&variable)
            {
                return;
            }
            if let Some(argument) = call.args.first() {
                let ty = self.type_of(argument);
                self.visit_expr(argument);
                if python::is_object(&ty) {
                    self.emit(Operation::DropsObject(text(argument)), call.span());
                }
            }
            return;
        }
        if is("pyo3::Python")
            && matches!(
                name.as_str(),
                "attach" | "with_gil" | "try_attach" | "with_gil_unchecked" | "attach_unchecked"
            )
        {
            if self.state != State::Attached {
                self.emit(Operation::Attach, call.func.span());
            }
            self.in_state(State::Attached, |walker| {
                for argument in &call.args {
                    walker.callable(argument, &[Ty::named("pyo3::Python")]);
                }
            });
            return;
        }
        if name.starts_with("with_critical_section") {
            self.critical += 1;
            for argument in &call.args {
                self.callable(argument, &[]);
            }
            self.critical -= 1;
            return;
        }
        if is_spawn(&name) {
            for argument in &call.args {
                if matches!(argument, Expr::Closure(_) | Expr::Async(_) | Expr::Path(_))
                    && !self.is_variable(argument)
                {
                    self.on_another_thread(|walker| walker.callable(argument, &[]));
                } else {
                    self.visit_expr(argument);
                }
            }
            return;
        }
        let root = full.first().map(String::as_str).unwrap_or_default();
        if root == "rayon" && matches!(name.as_str(), "join" | "scope" | "in_place_scope") {
            self.parallel_closures(
                &format!("rayon::{name}"),
                call.func.span(),
                call.args.iter(),
            );
            return;
        }
        if (is("std::LazyLock") || is("once_cell::Lazy") || is("std::Lazy")) && name == "new" {
            let cell = owner.last().to_owned();
            self.enter_initialiser(cell, call.func.span(), |walker| {
                for argument in &call.args {
                    walker.callable(argument, &[]);
                }
            });
            return;
        }
        if let Some(ffi) = python::ffi_name(&full) {
            for argument in &call.args {
                self.visit_expr(argument);
            }
            if let Some(what) = python::ffi_that_runs_python(ffi) {
                self.emit(Operation::Python(what.to_owned()), call.span());
            }
            self.emit(Operation::Ffi(ffi.to_owned()), call.func.span());
            return;
        }
        if let Some(id) = self
            .index
            .callee(self.scope, path, self.self_type.as_deref())
        {
            let detached = self.detaching.contains(&id);
            let mut moved = Vec::new();
            for argument in &call.args {
                if detached && matches!(argument, Expr::Closure(_)) {
                    self.emit(Operation::Detach, call.func.span());
                    self.in_state(State::Detached, |walker| walker.callable(argument, &[]));
                } else {
                    self.visit_expr(argument);
                    moved.extend(self.variable_guard(argument));
                }
            }
            self.emit(Operation::Call(id), call.func.span());
            for variable in moved {
                self.release_variable(&variable);
            }
            self.guard_from_function(id, call.args.iter(), None, call.span(), address(call));
            return;
        }
        let wait = python::waiting_function(&full);
        let into_python = python::function_into_python(&owner, &name);
        let mut moved = Vec::new();
        for argument in &call.args {
            match argument {
                Expr::Closure(closure) if (root != "std" && root != "pyo3") || name == "new" => {
                    self.stored(closure);
                }
                other => self.visit_expr(other),
            }
            moved.extend(self.variable_guard(argument));
        }
        if let Some(kind) = wait {
            self.emit(Operation::Wait(kind, full.join("::")), call.func.span());
        }
        if into_python {
            self.emit(
                Operation::Python(format!("{}::{name}", owner.last())),
                call.func.span(),
            );
        }
        if !name.ends_with("map") && name != "Some" && name != "Ok" {
            for variable in moved {
                self.release_variable(&variable);
            }
        }
    }

    fn is_variable(&self, expression: &Expr) -> bool {
        let Expr::Path(path) = expression else {
            return false;
        };
        path.path
            .get_ident()
            .is_some_and(|name| self.locals.get(&name.to_string()).is_some())
    }

    /// The variable with a guard that is given away by naming it.
    fn variable_guard(&self, argument: &Expr) -> Option<String> {
        let Expr::Path(path) = argument else {
            return None;
        };
        let name = path.path.get_ident()?.to_string();
        let has = self
            .live
            .iter()
            .any(|live| matches!(&live.owner, Owner::Variable(variable, _) if *variable == name));
        has.then_some(name)
    }

    /// A function of the crate that gives a guard has taken a lock: that of its first argument, as far as we know.
    fn guard_from_function<'e>(
        &mut self,
        id: FunctionId,
        mut arguments: impl Iterator<Item = &'e Expr>,
        receiver: Option<&Expr>,
        span: proc_macro2::Span,
        address: usize,
    ) {
        let function = &self.index.functions[id];
        let mut output = &function.output;
        while matches!(output.name.as_str(), "std::Result" | "std::Option") {
            match output.arguments.first() {
                Some(inner) => output = inner,
                None => return,
            }
        }
        let mode = match output.name.as_str() {
            "std::MutexGuard"
            | "parking_lot::MutexGuard"
            | "std::MappedMutexGuard"
            | "parking_lot::MappedMutexGuard" => Mode::Lock,
            "std::RwLockReadGuard" | "parking_lot::RwLockReadGuard" => Mode::Read,
            "std::RwLockWriteGuard" | "parking_lot::RwLockWriteGuard" => Mode::Write,
            _ => return,
        };
        let root = output.name.split("::").next().unwrap_or_default();
        let kind = if mode == Mode::Lock {
            "Mutex"
        } else {
            "RwLock"
        };
        let (identity, instance) = match receiver {
            // The method of an object: one lock for each such method.
            Some(receiver) => {
                let owner = function.self_type.clone().unwrap_or_default();
                (
                    Some(format!("{owner}.{}()", function.name)),
                    Some(text(receiver)),
                )
            }
            None => arguments
                .next()
                .map_or((None, None), |first| self.identity(first)),
        };
        let lock = Lock {
            ty: format!("{root}::{kind}"),
            mode,
            identity,
            instance,
            never_waits_attached: function.has_token,
            content: output.argument(0),
        };
        self.acquire(lock, span, address);
    }

    fn parallel_closures<'e>(
        &mut self,
        what: &str,
        span: proc_macro2::Span,
        arguments: impl Iterator<Item = &'e Expr>,
    ) {
        let id = self.body.parallels.len();
        self.body.parallels.push(Parallel {
            place: Place {
                file: self.file,
                span,
            },
            state: self.state,
            what: what.to_owned(),
        });
        for argument in arguments {
            if matches!(argument, Expr::Closure(_)) {
                let outer = self.parallel.replace(id);
                self.on_another_thread(|walker| walker.callable(argument, &[]));
                self.parallel = outer;
            } else {
                self.visit_expr(argument);
            }
        }
    }

    fn call_method(&mut self, call: &syn::ExprMethodCall, awaited: bool, unwrapped: bool) {
        let method = call.method.to_string();
        // The receiver first; `.lock().unwrap()` is known by what is called on it.
        match &*call.receiver {
            Expr::MethodCall(inner) => {
                let unwraps = matches!(
                    method.as_str(),
                    "unwrap"
                        | "expect"
                        | "unwrap_or_else"
                        | "map_err"
                        | "ok"
                        | "is_ok"
                        | "unwrap_or"
                );
                self.call_method(inner, false, unwraps);
            }
            other => self.visit_expr(other),
        }
        let receiver = self.type_of(&call.receiver);
        let peeled = receiver.peeled().clone();
        let span = call.method.span();
        if let Some(lock) = self.lock_taken(call, &receiver, unwrapped)
            && !awaited
        {
            for argument in &call.args {
                self.visit_expr(argument);
            }
            self.acquire(lock, span, address(call));
            return;
        }
        let has_closure = call
            .args
            .iter()
            .any(|argument| matches!(argument, Expr::Closure(_)));
        match method.as_str() {
            "detach" | "allow_threads"
                if peeled.is("pyo3::Python")
                    || (peeled.is_unknown()
                        && (has_closure || text(&call.receiver).ends_with("py"))) =>
            {
                self.emit(Operation::Detach, span);
                self.in_state(State::Detached, |walker| {
                    for argument in &call.args {
                        walker.callable(argument, &[]);
                    }
                });
                return;
            }
            "get_or_init" | "get_or_try_init" | "call_once" | "call_once_force"
                if call.args.len() == 1
                    && matches!(
                        peeled.name.as_str(),
                        "std::OnceLock"
                            | "once_cell::OnceCell"
                            | "std::Once"
                            | "parking_lot::Once"
                            | ""
                    ) =>
            {
                let cell = if peeled.is_unknown() {
                    "once-cell".to_owned()
                } else {
                    peeled.last().to_owned()
                };
                self.enter_initialiser(cell, span, |walker| {
                    for argument in &call.args {
                        walker.callable(argument, &[]);
                    }
                });
                return;
            }
            "install" if peeled.last() == "ThreadPool" || peeled.is_unknown() && has_closure => {
                self.parallel_closures("install", span, call.args.iter());
                return;
            }
            "unlocked" => {}
            _ if is_spawn(&method) && !peeled.is("std::Command") => {
                for argument in &call.args {
                    if matches!(argument, Expr::Closure(_) | Expr::Async(_)) {
                        self.on_another_thread(|walker| walker.callable(argument, &[]));
                    } else {
                        self.visit_expr(argument);
                    }
                }
                return;
            }
            _ => {}
        }
        if has_closure && is_parallel(&call.receiver) {
            self.parallel_closures("parallel iterator", span, call.args.iter());
            return;
        }
        if let Some(id) = self.inference().method_of_crate(&peeled, &method) {
            let detached = self.detaching.contains(&id);
            let mut moved = Vec::new();
            for argument in &call.args {
                if detached && matches!(argument, Expr::Closure(_)) {
                    self.emit(Operation::Detach, span);
                    self.in_state(State::Detached, |walker| walker.callable(argument, &[]));
                } else {
                    self.visit_expr(argument);
                    moved.extend(self.variable_guard(argument));
                }
            }
            if !awaited {
                self.emit(Operation::Call(id), span);
            }
            for variable in moved {
                self.release_variable(&variable);
            }
            self.guard_from_function(
                id,
                call.args.iter(),
                Some(&call.receiver),
                span,
                address(call),
            );
            return;
        }
        // Closures of iterators, options and results know what they are given.
        let given = match (receiver.name.as_str(), method.as_str()) {
            ("iter", _) => vec![receiver.argument(0)],
            ("std::Option" | "std::Result", "map_err" | "or_else" | "unwrap_or_else") => Vec::new(),
            ("std::Option" | "std::Result", _) => vec![receiver.argument(0)],
            _ => Vec::new(),
        };
        let is_condvar_wait =
            python::waiting_method(&peeled, call, unwrapped) == Some(WaitKind::Condvar);
        let mut moved = Vec::new();
        for argument in &call.args {
            match argument {
                Expr::Closure(closure) if runs_closure_now(&peeled, &method) => {
                    self.closure(closure, &given)
                }
                Expr::Closure(closure) => self.stored(closure),
                Expr::Path(_) if has_callable_argument(&method) => {
                    self.callable(argument, &[]);
                    self.visit_expr(argument);
                }
                other => {
                    self.visit_expr(other);
                    if !is_condvar_wait {
                        moved.extend(self.variable_guard(other));
                    }
                }
            }
        }
        if !awaited && let Some(kind) = python::waiting_method(&peeled, call, unwrapped) {
            self.emit(Operation::Wait(kind, method.clone()), span);
            if is_condvar_wait
                && let Some(id) = call.args.first().and_then(|first| self.guard_of(first))
            {
                self.given.insert(address(call), id);
            }
        }
        let argument = call
            .args
            .first()
            .map(|first| self.type_of(first))
            .unwrap_or_default();
        if python::method_into_python(&peeled, &method, call.args.len(), &argument) {
            self.emit(Operation::Python(method.clone()), span);
        }
        if matches!(
            method.as_str(),
            "iter" | "into_iter" | "keys" | "values" | "items"
        ) && call.args.is_empty()
            && method == "iter"
        {
            self.iterates(&call.receiver, &peeled, span);
        }
        for variable in moved {
            self.release_variable(&variable);
        }
    }

    fn iterates(&mut self, collection: &Expr, ty: &Ty, span: proc_macro2::Span) {
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
            place: Place {
                file: self.file,
                span,
            },
            in_critical_section: self.critical > 0,
            events: self.body.events.len()..usize::MAX,
        };
        self.body.iterations.push(iteration);
    }

    /// Iterations that were begun in a statement go on to the end of it.
    fn end_iterations(&mut self, first: usize) {
        let end = self.body.events.len();
        for iteration in &mut self.body.iterations[first..] {
            if iteration.events.end == usize::MAX {
                iteration.events.end = end;
            }
        }
    }

    fn origin(&self, expression: &Expr) -> Origin {
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
            Expr::Call(_) => Origin::Fresh,
            _ => Origin::Unknown,
        }
    }

    /// `table.insert(key, value);`, `table.clear();`: what was there is dropped.
    fn drops_in_statement(&mut self, expression: &Expr) {
        match expression {
            Expr::MethodCall(call) => {
                let method = call.method.to_string();
                let drops = matches!(
                    method.as_str(),
                    "insert"
                        | "remove"
                        | "clear"
                        | "pop"
                        | "truncate"
                        | "retain"
                        | "take"
                        | "replace"
                        | "pop_front"
                        | "pop_back"
                        | "swap_remove"
                        | "push_front"
                );
                if !drops || method == "push_front" {
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

    /// Whether dropping such a value may drop the last reference to an object of unknown class.
    fn holds_objects(&self, ty: &Ty, depth: usize) -> bool {
        if depth > 4 {
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

fn address<T>(node: &T) -> usize {
    std::ptr::from_ref(node) as usize
}

/// Source text of a short expression, as far as it matters which one it is.
pub fn text(expression: &Expr) -> String {
    match expression {
        Expr::Path(path) => {
            let names: Vec<String> = path
                .path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect();
            names.join("::")
        }
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => format!("{}.{name}", text(&field.base)),
            syn::Member::Unnamed(index) => format!("{}.{}", text(&field.base), index.index),
        },
        Expr::Reference(inner) => text(&inner.expr),
        Expr::Paren(inner) => text(&inner.expr),
        Expr::Unary(inner) => text(&inner.expr),
        Expr::Try(inner) => text(&inner.expr),
        Expr::MethodCall(call) => format!("{}.{}(..)", text(&call.receiver), call.method),
        Expr::Call(call) => format!("{}(..)", text(&call.func)),
        Expr::Index(index) => format!("{}[..]", text(&index.expr)),
        _ => "..".to_owned(),
    }
}

fn is_spawn(name: &str) -> bool {
    matches!(
        name,
        "spawn"
            | "spawn_blocking"
            | "spawn_local"
            | "spawn_scoped"
            | "spawn_fifo"
            | "spawn_named"
            | "spawn_pinned"
            | "spawn_broadcast"
            | "execute"
    )
}

fn has_callable_argument(method: &str) -> bool {
    matches!(
        method,
        "map"
            | "and_then"
            | "for_each"
            | "try_for_each"
            | "filter_map"
            | "unwrap_or_else"
            | "map_err"
            | "or_else"
    )
}

/// Whether a method calls the closure it is given before it returns, as those of iterators, options and collections do. What is not known
/// may keep it.
fn runs_closure_now(receiver: &Ty, method: &str) -> bool {
    let known_type = [
        "std::",
        "pyo3::",
        "iter",
        "[]",
        "pyo3_sync::",
        "parking_lot::",
    ]
    .iter()
    .any(|root| receiver.name.starts_with(root));
    let known_method = [
        "map",
        "filter",
        "find",
        "sort",
        "max_by",
        "min_by",
        "try_for",
        "for_each",
        "flat_map",
        "then",
        "unwrap_or",
        "or_",
        "ok_or",
        "is_",
        "and_",
        "retain",
        "dedup",
        "fold",
        "try_fold",
        "take_while",
        "skip_while",
        "inspect",
        "get_or",
        "with",
        "try_with",
        "any",
        "all",
        "position",
        "scan",
        "partition",
        "reduce",
        "chunk_by",
        "locked_",
        "binary_search",
        "replace_with",
        "update",
        "split",
        "trim",
        "extend",
        "drain",
        "entry",
        "scope",
        "catch",
        "sum",
        "group_by",
        "unlocked",
        "each",
        "visit",
        "walk",
        "iter",
        "zip",
    ]
    .iter()
    .any(|start| method.starts_with(start));
    known_type || known_method
}

/// Whether it is a chain that began with one of Rayon's iterators.
fn is_parallel(receiver: &Expr) -> bool {
    match receiver {
        Expr::MethodCall(call) => {
            let method = call.method.to_string();
            method.starts_with("par_")
                || method.starts_with("into_par_")
                || is_parallel(&call.receiver)
        }
        Expr::Try(inner) => is_parallel(&inner.expr),
        _ => false,
    }
}

/// Whether a block never gets to its end: `return`, `break`, `continue` or a panic is its last statement.
fn diverges(block: &syn::Block) -> bool {
    match block.stmts.last() {
        Some(Stmt::Expr(last, _)) => expression_diverges(last),
        Some(Stmt::Macro(last)) => is_panic(&last.mac),
        _ => false,
    }
}

fn expression_diverges(expression: &Expr) -> bool {
    match expression {
        Expr::Return(_) | Expr::Break(_) | Expr::Continue(_) => true,
        Expr::Block(block) => diverges(&block.block),
        Expr::Macro(inner) => is_panic(&inner.mac),
        Expr::If(branch) => {
            diverges(&branch.then_branch)
                && branch
                    .else_branch
                    .as_ref()
                    .is_some_and(|(_, other)| expression_diverges(other))
        }
        _ => false,
    }
}

fn is_panic(mac: &syn::Macro) -> bool {
    mac.path.segments.last().is_some_and(|last| {
        matches!(
            last.ident.to_string().as_str(),
            "panic" | "unreachable" | "todo" | "unimplemented" | "bail"
        )
    })
}

fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(inner) => has_let(&inner.expr),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Walker<'_, '_> {
    /// Items within functions are functions of their own.
    fn visit_item(&mut self, _: &'ast syn::Item) {}

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.block += 1;
        self.locals.enter();
        for statement in &block.stmts {
            self.visit_stmt(statement);
        }
        self.locals.leave();
        let depth = self.block;
        self.live
            .retain(|live| !matches!(&live.owner, Owner::Variable(_, block) if *block >= depth));
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
        let name = match &local.pat {
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
        };
        let Some(name) = name else { return };
        if let Some(guard) = self.guard_of(&init.expr) {
            self.give_to_variable(guard, &name);
        } else {
            let is_lock = matches!(ty.peeled().last(), "Mutex" | "RwLock");
            let identity = if is_lock {
                self.identity(&init.expr)
            } else {
                (None, None)
            };
            if identity.0.is_some() {
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
            self.body.initialisers[id].token = Some(Place {
                file: self.file,
                span: name.span(),
            });
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

    /// One that is kept in a variable: what is held here need not be held when it is called.
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
            Expr::Path(path) => self.call_function(call, &path.path.clone()),
            other => {
                self.visit_expr(other);
                for argument in &call.args {
                    self.visit_expr(argument);
                }
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
                walker.iterates(collection, &peeled, expression.expr.span());
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
