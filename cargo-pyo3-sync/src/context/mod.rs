//! What all rules know about a crate.
//!
//! - `names`: what a name means, through `use` and aliases.
//! - `index`: what the crate declares.
//! - `infer`: what type an expression has.
//! - `python`: what runs Python code, and what waits.
//! - `behaviour`: what each function does, as a list of events.
//! - `sharing`: what several threads can be at, and what is borrowed mutably.
//! - `reach`: which functions run attached, and which of them come to run Python code.

pub mod behaviour;
pub mod index;
mod infer;
pub mod names;
pub mod python;
pub mod reach;
pub mod sharing;

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
    /// Of each function.
    pub bodies: Vec<Body>,
    /// Of the initialiser of each static.
    pub static_bodies: Vec<Body>,
    pub reach: Reach,
    /// Types whose values several threads can be at.
    pub shared: HashSet<String>,
    /// Classes that something borrows mutably.
    pub mutably_borrowed: HashSet<String>,
}

/// A place where a lock is taken.
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

    /// All events, each with the function it is in.
    pub fn events(&self) -> impl Iterator<Item = (FunctionId, &Event)> {
        self.bodies
            .iter()
            .enumerate()
            .flat_map(|(id, body)| body.events.iter().map(move |event| (id, event)))
    }

    /// Whether the thread is attached when the function comes to an event in this state.
    pub fn is_attached(&self, function: FunctionId, event: &Event) -> bool {
        !event.elsewhere
            && match event.state {
                State::Attached => true,
                State::Detached => false,
                State::Caller => self.reach.attached(function),
            }
    }

    /// Whether nobody else can be at the lock: the method that takes it has made the object, or borrowed it mutably, and the lock is in that
    /// object and in no other.
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

    /// Whether a lock, by its identity, is a field of a class itself: not behind an `Arc`, which others may have as well.
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

    /// Where a lock is taken, by its identity.
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

    /// Whether some thread can make readers of a lock wait, where the lock is in a class: a method that only borrows its object, and writes.
    pub fn has_shared_writer(&self, identity: &str) -> bool {
        self.acquisitions(identity).any(|taken| {
            taken.lock.mode != Mode::Read && !self.has_exclusively(taken.function, taken.lock)
        })
    }

    /// How it is known that a function runs attached, as a sentence.
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
