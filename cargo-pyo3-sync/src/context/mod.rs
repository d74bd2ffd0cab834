//! The analysis of a crate that all rules share.
//!
//! - `names`: resolves names through `use` and aliases.
//! - `index`: the declarations of the crate.
//! - `infer`: the types of expressions.
//! - `python`: the operations that run Python code or wait.
//! - `behaviour`: the events of each function.
//! - `sharing`: the types shared between threads, and the classes borrowed mutably.
//! - `reach`: the functions that run attached, and the functions that run Python code.

pub mod behaviour;
pub mod index;
mod infer;
pub mod names;
pub mod python;
pub mod reach;
pub mod sharing;

pub(crate) use behaviour::is_panic;
pub use behaviour::{Body, Event, Lock, Mode, Operation, State};
pub use index::{Function, FunctionId, FunctionKind, Index};
pub use names::Ty;

use crate::{finding::Place, source::SourceFile, workspace::Crate};
use reach::Reach;
use std::collections::HashSet;

pub struct Context<'a> {
    pub source: &'a Crate,
    pub files: &'a [SourceFile],
    pub index: Index<'a>,
    /// The body of each function.
    pub bodies: Vec<Body>,
    /// The body of each static's initializer.
    pub static_bodies: Vec<Body>,
    pub reach: Reach,
    /// Types whose values several threads can access.
    pub shared: HashSet<String>,
    /// Classes that the crate borrows mutably.
    pub mutably_borrowed: HashSet<String>,
}

/// An acquisition of a lock.
pub struct Acquisition<'c> {
    pub function: FunctionId,
    pub guard: usize,
    pub lock: &'c Lock,
    pub is_attached: bool,
}

impl<'a> Context<'a> {
    pub fn new(source: &'a Crate) -> Self {
        let index = Index::new(&source.files, &source.module_paths);
        let detaching = behaviour::detaching_helpers(&index);
        let bodies: Vec<Body> = (0..index.functions.len())
            .map(|id| behaviour::of_function(&index, id, &detaching))
            .collect();
        let static_bodies = (0..index.statics.len())
            .map(|id| behaviour::of_static(&index, id, &detaching))
            .collect();
        let reach = Reach::new(&index, &bodies);
        let shared = sharing::shared_types(&index);
        let mutably_borrowed = sharing::mutably_borrowed(&index, &source.files, &bodies);
        Context {
            source,
            files: &source.files,
            index,
            bodies,
            static_bodies,
            reach,
            shared,
            mutably_borrowed,
        }
    }

    /// Returns all events, each with its function.
    pub fn events(&self) -> impl Iterator<Item = (FunctionId, &Event)> {
        self.bodies
            .iter()
            .enumerate()
            .flat_map(|(id, body)| body.events.iter().map(move |event| (id, event)))
    }

    /// Returns `true` if the thread is attached at an event of a function.
    pub fn is_attached(&self, function: FunctionId, event: &Event) -> bool {
        !event.elsewhere
            && match event.state {
                State::Attached => true,
                State::Detached => false,
                State::Caller => self.reach.attached(function),
            }
    }

    /// Returns `true` if no other thread can access the lock.
    ///
    /// The method that acquires the lock has created its object or borrowed it mutably, and the
    /// lock belongs to that object only.
    pub fn has_exclusively(&self, function: FunctionId, lock: &Lock) -> bool {
        let function = &self.index.functions[function];
        let (Some(identity), Some(instance)) = (&lock.identity, &lock.instance) else {
            return false;
        };
        let is_own = || {
            let first = function.parameters.first();
            function.kind == FunctionKind::PyMethod
                && sharing::borrows_mutably(function)
                && first.is_some_and(|(first, _)| first == instance)
        };
        self.is_within_class(identity, function.place.file)
            && (is_own() || sharing::makes(function, instance))
    }

    /// Returns `true` if a lock is a field of a class, and not shared through an `Arc`.
    pub fn is_within_class(&self, identity: &str, file: usize) -> bool {
        let Some((class, field)) = identity.split_once('.') else {
            return false;
        };
        let Some(item) = self.index.type_named(class, file) else {
            return false;
        };
        item.class.is_some()
            && item.fields.iter().any(|known| {
                known.name == field && matches!(known.ty.last(), "Mutex" | "RwLock" | "FairMutex")
            })
    }

    /// Returns the acquisitions of a lock, by its identity.
    pub fn acquisitions<'s>(&'s self, identity: &'s str) -> impl Iterator<Item = Acquisition<'s>> {
        self.events().filter_map(move |(function, event)| {
            let Operation::Acquire(guard) = event.operation else {
                return None;
            };
            let lock = &self.bodies[function].guards[guard].lock;
            let acquisition = Acquisition {
                function,
                guard,
                lock,
                is_attached: self.is_attached(function, event),
            };
            (lock.identity.as_deref() == Some(identity)).then_some(acquisition)
        })
    }

    /// Returns `true` if a method that borrows its object shared acquires the lock for writing.
    pub fn has_shared_writer(&self, identity: &str) -> bool {
        self.acquisitions(identity).any(|taken| {
            taken.lock.mode != Mode::Read && !self.has_exclusively(taken.function, taken.lock)
        })
    }

    /// Explains, as a sentence, how a function runs attached.
    pub fn why_attached(&self, function: FunctionId) -> String {
        self.reach.why(&self.index, function)
    }

    pub fn line(&self, place: Place) -> usize {
        let file = &self.files[place.file];
        file.position(file.range(place.span).start).0
    }

    pub fn file_name(&self, place: Place) -> String {
        self.files[place.file].path.display().to_string()
    }
}
