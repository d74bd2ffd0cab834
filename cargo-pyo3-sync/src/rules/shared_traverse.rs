//! Objects behind an `Arc` that `__traverse__` of more than one Python object visits.

mod paths;
mod visits;

use std::collections::{HashMap, HashSet};

use syn::{
    Expr,
    visit::{self, Visit},
};

use self::paths::{Path, Paths, ScopeKind, Walk};
use super::{Rule, guide};
use crate::{
    context::{Context, Function, FunctionId, FunctionKind, Operation, Ty, index::TypeItem},
    finding::{Finding, Place, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "shared-traverse",
    severity: Severity::Unsound,
    title: "objects behind an `Arc` that several Python objects traverse",
    page: include_str!("../../rules/shared-traverse.md"),
    guide: guide::COLLECTOR,
    on_by_default: true,
    check,
};

const NOTE: &str =
    "the collector subtracts a reference for each visit, and then clears objects that are in use";
const HELP: &str =
    "one object owns and visits them; each other object holds a `Py` to the owner, and visits that";

fn check(context: &Context<'_>, found: &mut Vec<Finding>) {
    let traversed = traversed_fields(context);
    if traversed.is_empty() {
        return;
    }
    let mut constructors = HashMap::new();
    // A constructor may call another one.
    for _ in 0..3 {
        for id in 0..context.index.functions.len() {
            for store in stores(context, &traversed, &constructors, id) {
                if let Source::Parameter(number) = store.source {
                    constructors.insert((id, number), store.field);
                }
            }
        }
    }
    for id in 0..context.index.functions.len() {
        let stores = stores(context, &traversed, &constructors, id);
        for (number, store) in stores.iter().enumerate() {
            let field = &traversed[store.field];
            let earlier = stores[..number].iter().rev().find(|earlier| {
                earlier.variable.is_some()
                    && earlier.variable == store.variable
                    && (earlier.is_cloned || store.is_cloned)
                    && !earlier.path.excludes(&store.path)
            });
            let other = match (&store.source, earlier) {
                (Source::Field(other), _) if store.is_cloned => &traversed[*other],
                (Source::Static, _) if store.is_cloned => field,
                (_, Some(earlier)) => &traversed[earlier.field],
                _ if store.is_cloned && store.is_repeated => field,
                _ => continue,
            };
            let message = if other.class == field.class {
                format!(
                    "several `{}` objects traverse the contents of this `Arc`",
                    field.class
                )
            } else {
                format!(
                    "`{}` and `{}` both traverse the contents of this `Arc`",
                    other.class, field.class
                )
            };
            let mut finding = Finding::new(store.place, message)
                .label(format!("stored in `{}.{}`", field.class, field.name))
                .related(field.traversal, format!("`{}` visits it", field.class))
                .note(NOTE)
                .help(HELP);
            if other.class != field.class {
                finding = finding.related(other.traversal, format!("`{}` visits it", other.class));
            }
            found.push(finding);
        }
    }
}

/// A field of a class with Python objects behind an `Arc`, which its `__traverse__` visits.
struct Traversed {
    class: String,
    name: String,
    ty: Ty,
    traversal: Place,
}

fn traversed_fields(context: &Context<'_>) -> Vec<Traversed> {
    let index = &context.index;
    let mut traversed = Vec::new();
    for item in index.types.iter().filter(|item| item.class.is_some()) {
        let traversal = index.methods_of(&item.name).find(|&id| {
            let function = &index.functions[id];
            function.name == "__traverse__" && function.kind == FunctionKind::PyMethod
        });
        let Some(traversal) = traversal else { continue };
        let visited = visited_fields(context, item, traversal);
        for field in &item.fields {
            if visited.contains(&field.name) && shares_objects(context, &field.ty, item.place.file)
            {
                traversed.push(Traversed {
                    class: item.name.clone(),
                    name: field.name.clone(),
                    ty: field.ty.clone(),
                    traversal: index.functions[traversal].place,
                });
            }
        }
    }
    traversed
}

/// The fields that `__traverse__` visits, or a method that it calls on the same object.
fn visited_fields(
    context: &Context<'_>,
    item: &TypeItem<'_>,
    traversal: FunctionId,
) -> HashSet<String> {
    let mut fields = HashSet::new();
    let mut seen = HashSet::new();
    let mut queue = vec![traversal];
    while let Some(id) = queue.pop() {
        let function = &context.index.functions[id];
        if function.self_type.as_ref() != Some(&item.name) || !seen.insert(id) {
            continue;
        }
        for (name, ty) in &function.parameters {
            if ty.mentions(&mut |part| part.is("pyo3::PyVisit")) {
                fields.extend(visits::fields(function.body, name));
            }
        }
        let events = context.bodies[id].events.iter();
        queue.extend(events.filter_map(|event| match event.operation {
            Operation::Call(callee) => Some(callee),
            _ => None,
        }));
    }
    fields
}

/// Returns whether the type is or contains an `Arc` that leads to Python objects.
fn shares_objects(context: &Context<'_>, ty: &Ty, file: usize) -> bool {
    ty.mentions(&mut |part| {
        part.is("std::Arc") && leads_to_objects(context, part, file, &mut HashSet::new())
    })
}

fn leads_to_objects(
    context: &Context<'_>,
    ty: &Ty,
    file: usize,
    seen: &mut HashSet<String>,
) -> bool {
    ty.mentions(&mut |part| {
        part.is("pyo3::Py")
            || part.local().is_some_and(|name| {
                seen.insert(name.to_owned())
                    && context.index.type_named(name, file).is_some_and(|item| {
                        let mut fields = item.fields.iter();
                        fields.any(|field| leads_to_objects(context, &field.ty, file, seen))
                    })
            })
    })
}

/// A value that a function stores in a traversed field.
struct Store {
    /// The number of the field.
    field: usize,
    source: Source,
    /// The variable that the value came from, and which one of that name.
    variable: Option<(String, usize)>,
    is_cloned: bool,
    /// In a loop that does not make the value.
    is_repeated: bool,
    path: Path,
    place: Place,
}

/// The origin of the value of a [`Store`].
#[derive(Clone, Copy)]
enum Source {
    /// A traversed field, by its number.
    Field(usize),
    Static,
    Parameter(usize),
    Unknown,
}

fn stores(
    context: &Context<'_>,
    traversed: &[Traversed],
    constructors: &HashMap<(FunctionId, usize), usize>,
    id: FunctionId,
) -> Vec<Store> {
    let function = &context.index.functions[id];
    let mut finder = Stores {
        context,
        traversed,
        constructors,
        function,
        variables: HashMap::new(),
        declared: 0,
        paths: Paths::new(),
        stores: Vec::new(),
    };
    finder.visit_block(function.body);
    finder.stores
}

struct Stores<'c, 'a> {
    context: &'c Context<'a>,
    traversed: &'c [Traversed],
    /// The field that a parameter of a function is stored in.
    constructors: &'c HashMap<(FunctionId, usize), usize>,
    function: &'c Function<'a>,
    variables: HashMap<String, Variable<'c>>,
    /// Number of variables that the function has declared so far.
    declared: usize,
    paths: Paths<'c>,
    stores: Vec<Store>,
}

#[derive(Clone, Copy)]
struct Variable<'c> {
    initializer: &'c Expr,
    /// The number of scopes around its declaration.
    depth: usize,
    number: usize,
}

impl<'c> Stores<'c, '_> {
    fn field(&self, class: &str, name: &str) -> Option<usize> {
        let mut fields = self.traversed.iter();
        fields.position(|field| field.class == class && field.name == name)
    }

    fn class_of(&self, path: &syn::Path) -> Option<String> {
        let self_type = self.function.self_type.as_deref();
        let ty = self
            .context
            .index
            .path(self.function.scope, path, self_type);
        ty.local().map(ToOwned::to_owned)
    }

    fn store(&mut self, field: usize, value: &Expr) {
        let (mut value, mut is_cloned) = uncloned(value);
        let mut name = variable(value);
        let known = |name: &Option<String>| self.variables.get(name.as_ref()?).copied();
        // A variable may be made from another one, and that from a third.
        for _ in 0..4 {
            let Some(made) = known(&name) else { break };
            let (inner, cloned) = uncloned(made.initializer);
            if matches!(inner, Expr::Field(_)) {
                value = inner;
                is_cloned |= cloned;
                name = None;
            } else if variable(inner).is_some() {
                is_cloned |= cloned;
                name = variable(inner);
            } else {
                break;
            }
        }
        let made = known(&name);
        self.stores.push(Store {
            field,
            source: self.source(field, value, name.as_deref()),
            is_repeated: name.is_some()
                && self
                    .paths
                    .is_repeated_within(made.map_or(0, |made| made.depth)),
            variable: name.map(|name| (name, made.map_or(0, |made| made.number))),
            is_cloned,
            path: self.paths.path(),
            place: Place {
                file: self.function.place.file,
                span: syn::spanned::Spanned::span(value),
            },
        });
    }

    fn source(&self, field: usize, value: &Expr, name: Option<&str>) -> Source {
        if let Expr::Field(access) = value {
            let member = member(&access.member);
            let own = variable(&access.base)
                .filter(|base| base == "self")
                .and(self.function.self_type.as_deref());
            let mut fields = self.traversed.iter();
            let other = fields.position(|other| {
                other.name == member
                    && other.ty == self.traversed[field].ty
                    && own.is_none_or(|class| class == other.class)
            });
            return other.map_or(Source::Unknown, Source::Field);
        }
        let Some(name) = name.filter(|name| !self.variables.contains_key(*name)) else {
            return Source::Unknown;
        };
        let mut parameters = self.function.parameters.iter();
        if let Some(number) = parameters.position(|(parameter, _)| parameter == name) {
            return Source::Parameter(number);
        }
        let file = self.function.place.file;
        match self.context.index.static_named(name, file) {
            Some(_) => Source::Static,
            None => Source::Unknown,
        }
    }
}

impl<'c> Walk<'c> for Stores<'c, '_> {
    fn paths(&mut self) -> &mut Paths<'c> {
        &mut self.paths
    }
}

impl<'c> Visit<'c> for Stores<'c, '_> {
    fn visit_local(&mut self, local: &'c syn::Local) {
        if let Some(init) = &local.init {
            self.visit_expr(&init.expr);
            if let Some((_, otherwise)) = &init.diverge {
                let decision = self.paths.decide();
                let exit = self.paths.exit_of(otherwise);
                self.in_arm(decision, 0, exit, |this| this.visit_expr(otherwise));
            }
        }
        if let (syn::Pat::Ident(name), Some(init)) = (&local.pat, &local.init) {
            self.declared += 1;
            let made = Variable {
                initializer: &init.expr,
                depth: self.paths.depth(),
                number: self.declared,
            };
            self.variables.insert(name.ident.to_string(), made);
        }
    }

    fn visit_expr_struct(&mut self, literal: &'c syn::ExprStruct) {
        if let Some(class) = self.class_of(&literal.path) {
            for value in &literal.fields {
                if let Some(field) = self.field(&class, &member(&value.member)) {
                    self.store(field, &value.expr);
                }
            }
        }
        visit::visit_expr_struct(self, literal);
    }

    fn visit_expr_call(&mut self, call: &'c syn::ExprCall) {
        if let Expr::Path(path) = &*call.func {
            let (scope, self_type) = (self.function.scope, self.function.self_type.as_deref());
            let callee = self.context.index.callee(scope, &path.path, self_type);
            let class = self.class_of(&path.path);
            for (number, argument) in call.args.iter().enumerate() {
                let stored_by = callee.and_then(|id| self.constructors.get(&(id, number)).copied());
                let of_tuple = || self.field(class.as_deref()?, &number.to_string());
                if let Some(field) = stored_by.or_else(of_tuple) {
                    self.store(field, argument);
                }
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_if(&mut self, node: &'c syn::ExprIf) {
        self.visit_expr(&node.cond);
        let decision = self.paths.decide();
        let exit = self.paths.exit_of_block(&node.then_branch);
        self.in_arm(decision, 0, exit, |this| {
            this.visit_block(&node.then_branch)
        });
        if let Some((_, otherwise)) = &node.else_branch {
            let exit = self.paths.exit_of(otherwise);
            self.in_arm(decision, 1, exit, |this| this.visit_expr(otherwise));
        }
    }

    fn visit_expr_match(&mut self, node: &'c syn::ExprMatch) {
        self.visit_expr(&node.expr);
        let decision = self.paths.decide();
        for (number, arm) in node.arms.iter().enumerate() {
            let exit = self.paths.exit_of(&arm.body);
            self.in_arm(decision, number, exit, |this| this.visit_arm(arm));
        }
    }

    fn visit_expr(&mut self, node: &'c Expr) {
        let exit = match node {
            Expr::Return(_) | Expr::Break(_) => self.paths.exit_of(node),
            _ => None,
        };
        match exit {
            Some(exit) => self.until_exit(exit, |this| visit::visit_expr(this, node)),
            None => visit::visit_expr(self, node),
        }
    }

    fn visit_expr_block(&mut self, node: &'c syn::ExprBlock) {
        let label = node.label.as_ref();
        self.in_scope(ScopeKind::Block, label, |this| {
            visit::visit_expr_block(this, node)
        });
    }

    fn visit_expr_closure(&mut self, node: &'c syn::ExprClosure) {
        self.in_scope(ScopeKind::Body, None, |this| {
            visit::visit_expr_closure(this, node)
        });
    }

    fn visit_expr_async(&mut self, node: &'c syn::ExprAsync) {
        self.in_scope(ScopeKind::Body, None, |this| {
            visit::visit_expr_async(this, node)
        });
    }

    fn visit_expr_for_loop(&mut self, node: &'c syn::ExprForLoop) {
        let label = node.label.as_ref();
        self.in_scope(ScopeKind::Loop, label, |this| {
            visit::visit_expr_for_loop(this, node)
        });
    }

    fn visit_expr_while(&mut self, node: &'c syn::ExprWhile) {
        let label = node.label.as_ref();
        self.in_scope(ScopeKind::Loop, label, |this| {
            visit::visit_expr_while(this, node)
        });
    }

    fn visit_expr_loop(&mut self, node: &'c syn::ExprLoop) {
        let label = node.label.as_ref();
        self.in_scope(ScopeKind::Loop, label, |this| {
            visit::visit_expr_loop(this, node)
        });
    }
}

/// Returns the expression without its calls of `clone`, and whether there are any.
fn uncloned(expression: &Expr) -> (&Expr, bool) {
    match expression {
        Expr::Paren(inner) => uncloned(&inner.expr),
        Expr::Reference(inner) => uncloned(&inner.expr),
        Expr::MethodCall(call) if call.method == "clone" => (uncloned(&call.receiver).0, true),
        Expr::Call(call) => match (&*call.func, call.args.first()) {
            (Expr::Path(path), Some(argument))
                if path
                    .path
                    .segments
                    .last()
                    .is_some_and(|last| last.ident == "clone") =>
            {
                (uncloned(argument).0, true)
            }
            _ => (expression, false),
        },
        _ => (expression, false),
    }
}

fn variable(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        Expr::Paren(inner) => variable(&inner.expr),
        _ => None,
    }
}

fn member(member: &syn::Member) -> String {
    match member {
        syn::Member::Named(name) => name.to_string(),
        syn::Member::Unnamed(index) => index.index.to_string(),
    }
}
