//! The declarations of a crate: types, classes, statics and functions, with the names in scope.

use std::collections::{HashMap, HashSet};

use syn::{
    Attribute, Block, Expr, Fields, Ident, ImplItem, ItemFn, ItemImpl, ItemMacro, ItemStatic, Meta,
    Signature, Token,
    parse::Parser,
    punctuated::Punctuated,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::names::{DeclaredNames, Imports, Ty, resolve_path, resolve_type};
use crate::{finding::Place, source::SourceFile};

pub type FunctionId = usize;

/// A module, in a file or in braces, with the names in its scope.
#[derive(Debug, Default)]
pub struct Scope {
    pub imports: Imports,
    pub path: Vec<String>,
    pub file: usize,
}

pub struct Field<'a> {
    pub name: String,
    /// The variant that contains the field, in an `enum`.
    pub variant: Option<String>,
    pub ty: Ty,
    pub syntax: &'a syn::Field,
}

/// A `struct` or `enum`.
pub struct TypeItem<'a> {
    pub name: String,
    pub scope: usize,
    pub place: Place,
    pub attributes: &'a [Attribute],
    /// The fields of a `struct`, or of all variants of an `enum`.
    pub fields: Vec<Field<'a>>,
    pub is_enum: bool,
    pub generics: Vec<String>,
    /// The options of `#[pyclass(..)]`, for classes.
    pub class: Option<ClassOptions>,
}

#[derive(Debug, Default, Clone)]
pub struct ClassOptions {
    pub frozen: bool,
    pub unsendable: bool,
    pub set_all: bool,
    pub extends: Option<String>,
    pub subclass: bool,
    /// The attribute, to underline and edit it.
    pub place: Option<Place>,
}

pub struct StaticItem<'a> {
    pub name: String,
    pub scope: usize,
    pub place: Place,
    pub ty: Ty,
    pub syntax_type: Option<&'a syn::Type>,
    pub value: Option<StaticValue<'a>>,
    pub mutable: bool,
    /// `true` for a static in a `thread_local!`.
    pub thread_local: bool,
    pub comment_line: usize,
}

/// The initializer, borrowed from the file or parsed from the tokens of a macro.
pub enum StaticValue<'a> {
    Borrowed(&'a Expr),
    Parsed(Box<Expr>),
}

impl StaticValue<'_> {
    pub fn expression(&self) -> &Expr {
        match self {
            StaticValue::Borrowed(expression) => expression,
            StaticValue::Parsed(expression) => expression,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// A `#[pyfunction]`.
    PyFunction,
    /// A method in a `#[pymethods]` block.
    PyMethod,
    /// A `#[pymodule]`.
    PyModule,
    Plain,
}

pub struct Function<'a> {
    pub name: String,
    pub scope: usize,
    pub self_type: Option<String>,
    /// The trait that the `impl` block implements.
    pub of_trait: Option<String>,
    pub kind: FunctionKind,
    pub attributes: &'a [Attribute],
    pub signature: &'a Signature,
    pub body: &'a Block,
    pub place: Place,
    /// The parameters and their types, starting with `self` for methods.
    pub parameters: Vec<(String, Ty)>,
    pub output: Ty,
    /// `true` if a parameter is a `Python<'_>` or `Bound<'_, _>`.
    pub has_token: bool,
}

impl Function<'_> {
    pub fn qualified(&self) -> String {
        match &self.self_type {
            Some(ty) => format!("{ty}::{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns `true` if Python calls the function, through PyO3.
    pub fn is_entry(&self) -> bool {
        self.kind != FunctionKind::Plain
    }
}

/// An `unsafe impl Send for ..` or `unsafe impl Sync for ..`.
pub struct MarkerImpl {
    pub marker: &'static str,
    pub ty: Ty,
    pub generics: Vec<String>,
    pub place: Place,
    pub scope: usize,
}

/// A `#[pymodule]` with its declarations.
pub struct ModuleItem {
    pub name: String,
    pub scope: usize,
    pub place: Place,
    pub gil_used: Option<bool>,
    /// `true` for a module in a `#[pymodule]`. Only the outermost module declares `gil_used`.
    pub submodule: bool,
}

/// All declarations of a crate.
#[derive(Default)]
pub struct Index<'a> {
    pub scopes: Vec<Scope>,
    pub types: Vec<TypeItem<'a>>,
    pub statics: Vec<StaticItem<'a>>,
    pub functions: Vec<Function<'a>>,
    pub markers: Vec<MarkerImpl>,
    pub modules: Vec<ModuleItem>,
    types_by_name: HashMap<String, Vec<usize>>,
    statics_by_name: HashMap<String, Vec<usize>>,
    free_functions: HashMap<String, Vec<FunctionId>>,
    methods: HashMap<(String, String), Vec<FunctionId>>,
    methods_by_type: HashMap<String, Vec<FunctionId>>,
    /// Maps the name of a trait to the types that implement it.
    implementors: HashMap<String, HashSet<String>>,
    /// Maps the name of `type Name = ..` to its scope and type.
    aliases: HashMap<String, (usize, &'a syn::Type)>,
    pub declared: DeclaredNames,
    /// The items that `wrap_pymodule!` and `#[pymodule_export]` add to other modules.
    exported: HashSet<String>,
}

impl<'a> Index<'a> {
    /// Reads all files of a crate, each with its module path.
    pub fn new(files: &'a [SourceFile], module_paths: &[Vec<String>]) -> Self {
        let mut index = Index::default();
        for file in files {
            collect_names(&file.tree.items, &mut index.declared);
        }
        index
            .declared
            .modules
            .extend(module_paths.iter().flatten().cloned());
        for (number, file) in files.iter().enumerate() {
            let scope = index.add_scope(&file.tree.items, number, module_paths[number].clone());
            let mut collector = Collector {
                index: &mut index,
                file: number,
                scope,
                container: None,
                in_python_module: false,
            };
            collector.visit_file(&file.tree);
        }
        index.resolve();
        index
    }

    fn add_scope(&mut self, items: &[syn::Item], file: usize, path: Vec<String>) -> usize {
        let mut imports = Imports::default();
        for item in items {
            if let syn::Item::Use(item) = item {
                imports.add(&item.tree);
            }
        }
        self.scopes.push(Scope {
            imports,
            path,
            file,
        });
        self.scopes.len() - 1
    }

    /// Follows aliases and fills the lookup tables, once all names are known.
    fn resolve(&mut self) {
        let mut types = std::mem::take(&mut self.types);
        let mut statics = std::mem::take(&mut self.statics);
        let mut functions = std::mem::take(&mut self.functions);
        let mut markers = std::mem::take(&mut self.markers);
        let fields = types
            .iter_mut()
            .flat_map(|item| &mut item.fields)
            .map(|field| &mut field.ty);
        let parameters = functions.iter_mut().flat_map(|function| {
            function
                .parameters
                .iter_mut()
                .map(|(_, ty)| ty)
                .chain([&mut function.output])
        });
        let of_statics = statics.iter_mut().map(|item| &mut item.ty);
        let of_markers = markers.iter_mut().map(|item| &mut item.ty);
        for ty in fields.chain(parameters).chain(of_statics).chain(of_markers) {
            *ty = self.unalias(std::mem::take(ty), 0);
        }
        for function in &mut functions {
            function.has_token = function.parameters.iter().any(|(_, ty)| carries_token(ty));
        }
        (self.types, self.statics, self.functions, self.markers) =
            (types, statics, functions, markers);
        for module in &mut self.modules {
            module.submodule |= self.exported.contains(&module.name);
        }
        for (id, item) in self.types.iter().enumerate() {
            self.types_by_name
                .entry(item.name.clone())
                .or_default()
                .push(id);
        }
        for (id, item) in self.statics.iter().enumerate() {
            self.statics_by_name
                .entry(item.name.clone())
                .or_default()
                .push(id);
        }
        for (id, function) in self.functions.iter().enumerate() {
            if let Some(ty) = &function.self_type {
                self.methods_by_type.entry(ty.clone()).or_default().push(id);
                if let Some(name) = &function.of_trait {
                    self.implementors
                        .entry(name.clone())
                        .or_default()
                        .insert(ty.clone());
                }
            }
            match &function.self_type {
                Some(ty) => self
                    .methods
                    .entry((ty.clone(), function.name.clone()))
                    .or_default()
                    .push(id),
                None => self
                    .free_functions
                    .entry(function.name.clone())
                    .or_default()
                    .push(id),
            }
        }
    }

    pub fn is_local(&self, name: &str) -> bool {
        self.declared.types.contains(name)
    }

    /// Resolves a type written in the module `scope`, following aliases of the crate.
    pub fn ty(&self, scope: usize, ty: &syn::Type, self_type: Option<&str>) -> Ty {
        let resolved = resolve_type(ty, &self.scopes[scope].imports, self_type, &self.declared);
        self.unalias(resolved, 0)
    }

    pub fn path(&self, scope: usize, path: &syn::Path, self_type: Option<&str>) -> Ty {
        let resolved = resolve_path(path, &self.scopes[scope].imports, self_type, &self.declared);
        self.unalias(resolved, 0)
    }

    fn unalias(&self, mut ty: Ty, depth: usize) -> Ty {
        if depth > 8 {
            return ty;
        }
        ty.arguments = ty
            .arguments
            .into_iter()
            .map(|argument| self.unalias(argument, depth + 1))
            .collect();
        let Some((scope, meaning)) = ty.local().and_then(|name| self.aliases.get(name)) else {
            return ty;
        };
        let meaning = resolve_type(meaning, &self.scopes[*scope].imports, None, &self.declared);
        if meaning.name == ty.name {
            ty
        } else {
            self.unalias(meaning, depth + 1)
        }
    }

    pub fn type_named(&self, name: &str, file: usize) -> Option<&TypeItem<'a>> {
        let candidates = self.types_by_name.get(name)?;
        let near = candidates
            .iter()
            .find(|&&id| self.types[id].place.file == file);
        near.or(candidates.first()).map(|&id| &self.types[id])
    }

    pub fn static_named(&self, name: &str, file: usize) -> Option<&StaticItem<'a>> {
        let candidates = self.statics_by_name.get(name)?;
        let near = candidates
            .iter()
            .find(|&&id| self.statics[id].place.file == file);
        near.or(candidates.first()).map(|&id| &self.statics[id])
    }

    pub fn method(&self, ty: &str, name: &str, file: usize) -> Option<FunctionId> {
        let candidates = self.methods.get(&(ty.to_owned(), name.to_owned()))?;
        let near = candidates
            .iter()
            .find(|&&id| self.functions[id].place.file == file);
        near.or(candidates.first()).copied()
    }

    pub fn methods_of<'s>(&'s self, ty: &str) -> impl Iterator<Item = FunctionId> + use<'s, 'a> {
        self.methods_by_type.get(ty).into_iter().flatten().copied()
    }

    /// Returns the types that implement a trait of this name and have methods in the `impl`.
    pub fn implementors<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> + use<'s, 'a> {
        self.implementors
            .get(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Returns the function that a path calls: `foo`, `module::foo`, `Type::foo`, `Self::foo`.
    pub fn callee(
        &self,
        scope: usize,
        path: &syn::Path,
        self_type: Option<&str>,
    ) -> Option<FunctionId> {
        let scope_of_call = &self.scopes[scope];
        let written: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        let full = scope_of_call.imports.expand(&written);
        let (name, before) = full.split_last()?;
        if let Some(owner) = before.last() {
            let owner = if owner == "Self" {
                self_type?
            } else {
                owner.as_str()
            };
            let owner_ty = match self.aliases.get(owner) {
                Some((scope, ty)) => self
                    .ty(*scope, ty, None)
                    .local()
                    .unwrap_or(owner)
                    .to_owned(),
                None => owner.to_owned(),
            };
            if let Some(id) = self.method(&owner_ty, name, scope_of_call.file) {
                return Some(id);
            }
            // A function of another crate with the same name.
            let root = full[0].as_str();
            let inside = matches!(root, "crate" | "self" | "super")
                || scope_of_call
                    .path
                    .first()
                    .is_some_and(|first| first == root)
                || self.declared.modules.contains(root);
            if !inside {
                return None;
            }
        }
        let candidates = self.free_functions.get(name)?;
        if let Some(module) = before
            .last()
            .filter(|module| !matches!(module.as_str(), "crate" | "self" | "super"))
        {
            let there = candidates
                .iter()
                .find(|&&id| self.scopes[self.functions[id].scope].path.last() == Some(module));
            if there.is_some() {
                return there.copied();
            }
        }
        let here = candidates
            .iter()
            .find(|&&id| self.functions[id].scope == scope);
        let near = || {
            candidates
                .iter()
                .find(|&&id| self.functions[id].place.file == scope_of_call.file)
        };
        match here.or_else(near) {
            Some(id) => Some(*id),
            // Another module of the crate, if the function was imported or the name is unique.
            None if full.len() > 1 || candidates.len() == 1 => candidates.first().copied(),
            None => None,
        }
    }
}

fn collect_names(items: &[syn::Item], names: &mut DeclaredNames) {
    struct Names<'n>(&'n mut DeclaredNames);
    impl<'ast> Visit<'ast> for Names<'_> {
        fn visit_item(&mut self, item: &'ast syn::Item) {
            let name = match item {
                syn::Item::Struct(item) => Some(&item.ident),
                syn::Item::Enum(item) => Some(&item.ident),
                syn::Item::Union(item) => Some(&item.ident),
                syn::Item::Type(item) => Some(&item.ident),
                syn::Item::Trait(item) => Some(&item.ident),
                _ => None,
            };
            if let Some(name) = name {
                self.0.types.insert(name.to_string());
            }
            if let syn::Item::Mod(module) = item {
                self.0.modules.insert(module.ident.to_string());
            }
            visit::visit_item(self, item);
        }
    }
    for item in items {
        Names(names).visit_item(item);
    }
}

/// Collects the declarations of a file.
struct Collector<'i, 'a> {
    index: &'i mut Index<'a>,
    file: usize,
    scope: usize,
    /// The current `impl` block.
    container: Option<Container>,
    in_python_module: bool,
}

#[derive(Clone)]
struct Container {
    self_type: String,
    of_trait: Option<String>,
    is_pymethods: bool,
}

impl<'a> Collector<'_, 'a> {
    fn place(&self, span: proc_macro2::Span) -> Place {
        Place {
            file: self.file,
            span,
        }
    }

    fn add_type(
        &mut self,
        ident: &Ident,
        attributes: &'a [Attribute],
        fields: Vec<(Option<&'a Ident>, &'a Fields)>,
        generics: &syn::Generics,
        is_enum: bool,
    ) {
        let mut collected = Vec::new();
        for (variant, fields) in fields {
            for (number, field) in fields.iter().enumerate() {
                let name = field
                    .ident
                    .as_ref()
                    .map_or_else(|| number.to_string(), Ident::to_string);
                let ty = self
                    .index
                    .ty(self.scope, &field.ty, Some(&ident.to_string()));
                collected.push(Field {
                    name,
                    variant: variant.map(Ident::to_string),
                    ty,
                    syntax: field,
                });
            }
        }
        let class = class_options(attributes, self.file);
        let item = TypeItem {
            name: ident.to_string(),
            scope: self.scope,
            place: self.place(ident.span()),
            attributes,
            fields: collected,
            is_enum,
            generics: generics
                .type_params()
                .map(|parameter| parameter.ident.to_string())
                .collect(),
            class,
        };
        self.index.types.push(item);
    }

    fn add_static(&mut self, item: StaticSyntax<'a>) {
        let ty = match item.ty {
            TypeSyntax::Borrowed(ty) => self.index.ty(self.scope, ty, None),
            TypeSyntax::Parsed(ref ty) => self.index.ty(self.scope, ty, None),
        };
        let place = self.place(item.ident.span());
        self.index.statics.push(StaticItem {
            name: item.ident.to_string(),
            scope: self.scope,
            place,
            ty: if item.lazy {
                Ty::of("lazy_static", ty)
            } else {
                ty
            },
            syntax_type: match item.ty {
                TypeSyntax::Borrowed(ty) => Some(ty),
                TypeSyntax::Parsed(_) => None,
            },
            value: item.value,
            mutable: item.mutable,
            thread_local: item.thread_local,
            comment_line: item.ident.span().start().line,
        });
    }

    fn add_function(
        &mut self,
        attributes: &'a [Attribute],
        signature: &'a Signature,
        body: &'a Block,
    ) {
        let container = self.container.clone();
        let self_type = container
            .as_ref()
            .map(|container| container.self_type.clone());
        let kind = if container
            .as_ref()
            .is_some_and(|container| container.is_pymethods)
        {
            FunctionKind::PyMethod
        } else if has_attribute(attributes, "pyfunction") {
            FunctionKind::PyFunction
        } else if has_attribute(attributes, "pymodule")
            || has_attribute(attributes, "pymodule_init")
        {
            FunctionKind::PyModule
        } else {
            FunctionKind::Plain
        };
        let mut parameters = Vec::new();
        for input in &signature.inputs {
            match input {
                syn::FnArg::Receiver(_) => {
                    let ty = self_type
                        .as_deref()
                        .map(|name| Ty::named(&format!("crate::{name}")));
                    parameters.push(("self".to_owned(), ty.unwrap_or_default()));
                }
                syn::FnArg::Typed(parameter) => {
                    let ty = self
                        .index
                        .ty(self.scope, &parameter.ty, self_type.as_deref());
                    let name = match &*parameter.pat {
                        syn::Pat::Ident(name) => name.ident.to_string(),
                        _ => "_".to_owned(),
                    };
                    parameters.push((name, ty));
                }
            }
        }
        let output = match &signature.output {
            syn::ReturnType::Default => Ty::named("()"),
            syn::ReturnType::Type(_, ty) => self.index.ty(self.scope, ty, self_type.as_deref()),
        };
        let has_token = parameters.iter().any(|(_, ty)| carries_token(ty));
        let place = self.place(signature.ident.span());
        self.index.functions.push(Function {
            name: signature.ident.to_string(),
            scope: self.scope,
            self_type,
            of_trait: container.and_then(|container| container.of_trait),
            kind,
            attributes,
            signature,
            body,
            place,
            parameters,
            output,
            has_token,
        });
    }
}

/// Returns `true` if a value of this type proves that the thread is attached.
pub fn carries_token(ty: &Ty) -> bool {
    let direct = |ty: &Ty| {
        matches!(
            ty.name.as_str(),
            "pyo3::Python" | "pyo3::Bound" | "pyo3::PyRef" | "pyo3::PyRefMut"
        )
    };
    // Covers `Option<Bound<..>>` and `&[Bound<..>]`, but not `impl Fn(Python)`, whose arguments are
    // not stored.
    match ty.name.as_str() {
        "std::Option" | "[]" | "std::Vec" | "()" => ty.arguments.iter().any(carries_token),
        _ => direct(ty),
    }
}

enum TypeSyntax<'a> {
    Borrowed(&'a syn::Type),
    Parsed(Box<syn::Type>),
}

struct StaticSyntax<'a> {
    ident: Ident,
    ty: TypeSyntax<'a>,
    value: Option<StaticValue<'a>>,
    mutable: bool,
    thread_local: bool,
    lazy: bool,
}

impl<'a> Visit<'a> for Collector<'_, 'a> {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let attributes = attributes_of(item);
        if is_for_tests(attributes) {
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        let python = has_attribute(&item.attrs, "pymodule");
        if python {
            self.index.modules.push(ModuleItem {
                name: item.ident.to_string(),
                scope: self.scope,
                place: self.place(item.ident.span()),
                gil_used: gil_used(&item.attrs),
                submodule: self.in_python_module,
            });
        }
        let Some((_, items)) = &item.content else {
            return;
        };
        let mut path = self.index.scopes[self.scope].path.clone();
        path.push(item.ident.to_string());
        let scope = self.index.add_scope(items, self.file, path);
        let outer = std::mem::replace(&mut self.scope, scope);
        let was_python = self.in_python_module;
        self.in_python_module |= python;
        for item in items {
            self.visit_item(item);
        }
        self.scope = outer;
        self.in_python_module = was_python;
    }

    /// Reads the `use` items within functions. Those of modules have been read before.
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if has_attribute(&item.attrs, "pymodule_export") {
            exported_names(&item.tree, &mut self.index.exported);
        }
        self.index.scopes[self.scope].imports.add(&item.tree);
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.add_type(
            &item.ident,
            &item.attrs,
            vec![(None, &item.fields)],
            &item.generics,
            false,
        );
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        let fields = item
            .variants
            .iter()
            .map(|variant| (Some(&variant.ident), &variant.fields))
            .collect();
        self.add_type(&item.ident, &item.attrs, fields, &item.generics, true);
    }

    fn visit_item_type(&mut self, item: &'a syn::ItemType) {
        self.index
            .aliases
            .insert(item.ident.to_string(), (self.scope, &item.ty));
    }

    fn visit_item_static(&mut self, item: &'a ItemStatic) {
        self.add_static(StaticSyntax {
            ident: item.ident.clone(),
            ty: TypeSyntax::Borrowed(&item.ty),
            value: Some(StaticValue::Borrowed(&item.expr)),
            mutable: matches!(item.mutability, syn::StaticMutability::Mut(_)),
            thread_local: has_attribute(&item.attrs, "thread_local"),
            lazy: false,
        });
        visit::visit_item_static(self, item);
    }

    fn visit_item_macro(&mut self, item: &'a ItemMacro) {
        self.visit_macro(&item.mac);
    }

    fn visit_macro(&mut self, mac: &'a syn::Macro) {
        let Some(name) = mac
            .path
            .segments
            .last()
            .map(|segment| segment.ident.to_string())
        else {
            return;
        };
        if name == "wrap_pymodule"
            && let Ok(path) = mac.parse_body::<syn::Path>()
        {
            self.index
                .exported
                .extend(path.segments.last().map(|last| last.ident.to_string()));
        }
        if name != "thread_local" && name != "lazy_static" {
            return;
        }
        let Ok(declared) = StaticsInMacro::parse.parse2(mac.tokens.clone()) else {
            return;
        };
        for (ident, ty, value) in declared.0 {
            self.add_static(StaticSyntax {
                ident,
                ty: TypeSyntax::Parsed(Box::new(ty)),
                value: Some(StaticValue::Parsed(Box::new(value))),
                mutable: false,
                thread_local: name == "thread_local",
                lazy: name == "lazy_static",
            });
        }
    }

    fn visit_item_impl(&mut self, item: &'a ItemImpl) {
        let ty = self.index.ty(self.scope, &item.self_ty, None);
        let of_trait = item
            .trait_
            .as_ref()
            .and_then(|(_, path, _)| path.segments.last())
            .map(|segment| segment.ident.to_string());
        if let (Some(name), Some(_)) = (of_trait.as_deref(), item.unsafety) {
            let marker = match name {
                "Send" => Some("Send"),
                "Sync" => Some("Sync"),
                _ => None,
            };
            if let Some(marker) = marker {
                self.index.markers.push(MarkerImpl {
                    marker,
                    ty: ty.clone(),
                    generics: item
                        .generics
                        .type_params()
                        .map(|parameter| parameter.ident.to_string())
                        .collect(),
                    place: self.place(
                        item.unsafety
                            .span()
                            .join(item.self_ty.span())
                            .unwrap_or(item.self_ty.span()),
                    ),
                    scope: self.scope,
                });
            }
        }
        let container = Container {
            self_type: ty.last().to_owned(),
            of_trait,
            is_pymethods: has_attribute(&item.attrs, "pymethods"),
        };
        let outer = self.container.replace(container);
        for inner in &item.items {
            if let ImplItem::Fn(function) = inner
                && !is_for_tests(&function.attrs)
            {
                self.add_function(&function.attrs, &function.sig, &function.block);
                let inside = self.container.take();
                visit::visit_block(self, &function.block);
                self.container = inside;
            }
        }
        self.container = outer;
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        let container = Container {
            self_type: item.ident.to_string(),
            of_trait: None,
            is_pymethods: false,
        };
        let outer = self.container.replace(container);
        for inner in &item.items {
            if let syn::TraitItem::Fn(function) = inner
                && let Some(body) = &function.default
            {
                self.add_function(&function.attrs, &function.sig, body);
            }
        }
        self.container = outer;
    }

    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        if has_attribute(&item.attrs, "pymodule") {
            self.index.modules.push(ModuleItem {
                name: item.sig.ident.to_string(),
                scope: self.scope,
                place: self.place(item.sig.ident.span()),
                gil_used: gil_used(&item.attrs),
                submodule: self.in_python_module,
            });
        }
        let outer = self.container.take();
        self.add_function(&item.attrs, &item.sig, &item.block);
        // Functions may contain `use` items, which apply to the items inside.
        visit::visit_block(self, &item.block);
        self.container = outer;
    }
}

fn exported_names(tree: &syn::UseTree, names: &mut HashSet<String>) {
    match tree {
        syn::UseTree::Path(inner) => exported_names(&inner.tree, names),
        syn::UseTree::Name(name) => drop(names.insert(name.ident.to_string())),
        syn::UseTree::Rename(rename) => drop(names.insert(rename.ident.to_string())),
        syn::UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|tree| exported_names(tree, names)),
        syn::UseTree::Glob(_) => {}
    }
}

/// Statics `static NAME: Type = value;`, as in `thread_local!` and `lazy_static!`.
struct StaticsInMacro(Vec<(Ident, syn::Type, Expr)>);

impl StaticsInMacro {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Self> {
        let mut declared = Vec::new();
        while !input.is_empty() {
            input.call(Attribute::parse_outer)?;
            input.parse::<syn::Visibility>()?;
            input.parse::<Token![static]>()?;
            if input.peek(Token![ref]) {
                input.parse::<Token![ref]>()?;
            }
            let name: Ident = input.parse()?;
            input.parse::<Token![:]>()?;
            let ty: syn::Type = input.parse()?;
            input.parse::<Token![=]>()?;
            let value: Expr = input.parse()?;
            if input.peek(Token![;]) {
                input.parse::<Token![;]>()?;
            }
            declared.push((name, ty, value));
        }
        Ok(StaticsInMacro(declared))
    }
}

pub fn attributes_of(item: &syn::Item) -> &[Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        _ => &[],
    }
}

/// Matches `#[test]`, `#[cfg(test)]` and similar attributes.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Some(name) = attribute.path().segments.last() else {
            return false;
        };
        if name.ident == "cfg" {
            let Meta::List(list) = &attribute.meta else {
                return false;
            };
            let text = list.tokens.to_string();
            return text == "test" || text.starts_with("all (test") || text.starts_with("all(test");
        }
        name.ident == "test" || name.ident == "bench"
    })
}

/// Matches `#[name]`, `#[name(..)]`, `#[pyo3::name]`, and `#[cfg_attr(.., name)]`.
pub fn has_attribute(attributes: &[Attribute], name: &str) -> bool {
    attributes
        .iter()
        .any(|attribute| find_meta(&attribute.meta, name).is_some())
}

/// Returns the attribute `name`, also from `cfg_attr`.
fn find_meta(meta: &Meta, name: &str) -> Option<Meta> {
    let last = meta.path().segments.last()?;
    if last.ident == name {
        return Some(meta.clone());
    }
    if last.ident == "cfg_attr" {
        let Meta::List(list) = meta else { return None };
        let inner = Punctuated::<Meta, Token![,]>::parse_terminated
            .parse2(list.tokens.clone())
            .ok()?;
        return inner.iter().skip(1).find_map(|meta| find_meta(meta, name));
    }
    None
}

/// Returns the arguments of all attributes of this name: `#[pyclass(frozen)] #[pyo3(name = "x")]`.
pub fn attribute_arguments(attributes: &[Attribute], name: &str) -> Vec<Meta> {
    attributes
        .iter()
        .filter_map(|attribute| find_meta(&attribute.meta, name))
        .filter_map(|meta| match meta {
            Meta::List(list) => Punctuated::<Meta, Token![,]>::parse_terminated
                .parse2(list.tokens)
                .ok(),
            _ => None,
        })
        .flatten()
        .collect()
}

/// Returns `true` if an attribute contains a flag, as `get` in `#[pyo3(get, name = "x")]`.
pub fn has_flag(attributes: &[Attribute], name: &str, flag: &str) -> bool {
    attribute_arguments(attributes, name)
        .iter()
        .any(|meta| meta.path().is_ident(flag))
}

fn class_options(attributes: &[Attribute], file: usize) -> Option<ClassOptions> {
    let attribute = attributes
        .iter()
        .find(|attribute| find_meta(&attribute.meta, "pyclass").is_some())?;
    let mut options = ClassOptions {
        place: Some(Place {
            file,
            span: attribute.span(),
        }),
        ..ClassOptions::default()
    };
    let mut arguments = attribute_arguments(attributes, "pyclass");
    arguments.extend(attribute_arguments(attributes, "pyo3"));
    for meta in arguments {
        let Some(name) = meta.path().get_ident().map(Ident::to_string) else {
            continue;
        };
        match name.as_str() {
            "frozen" => options.frozen = true,
            "unsendable" => options.unsendable = true,
            "set_all" => options.set_all = true,
            "subclass" => options.subclass = true,
            "extends" => {
                if let Meta::NameValue(value) = &meta
                    && let Expr::Path(path) = &value.value
                {
                    options.extends = path
                        .path
                        .segments
                        .last()
                        .map(|segment| segment.ident.to_string());
                }
            }
            _ => {}
        }
    }
    Some(options)
}

fn gil_used(attributes: &[Attribute]) -> Option<bool> {
    let mut arguments = attribute_arguments(attributes, "pymodule");
    arguments.extend(attribute_arguments(attributes, "pyo3"));
    arguments.iter().find_map(|meta| {
        let Meta::NameValue(pair) = meta else {
            return None;
        };
        if !pair.path.is_ident("gil_used") {
            return None;
        }
        match &pair.value {
            Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Bool(value),
                ..
            }) => Some(value.value),
            _ => None,
        }
    })
}
