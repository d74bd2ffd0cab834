//! Who waits for what: the graph in which a deadlock is a cycle.
//!
//! The graph has an edge for each sleeping thread, to the word that it waits for. The edge from there to the thread
//! that owns the word is not stored: it is in the word. So owning costs nothing, and only threads that are about to
//! sleep come here.
//!
//! # Why exactly one thread of a cycle is told
//!
//! A cycle is complete when its last thread goes to sleep, since a thread that is awake can still give up what it owns.
//! That last thread, in one critical section, walks from the word it wants, over owners and their edges, and either
//! comes back to itself, and then reports, or enters its own edge. Of two threads that would complete the cycle together
//! the second finds the edge of the first.
//!
//! # Why nobody is told without reason
//!
//! A thread withdraws its edge after it was woken and before it attaches. An edge may therefore be stale for a
//! moment: its thread has been woken and not withdrawn it yet. That is harmless, because the walk goes on
//! to the present owner of the word. If the word was given up, it has none, or is reserved for the sleeper, which is no
//! owner either, and the walk ends; if a third thread has taken it meanwhile, the woken thread will have to wait for that
//! one, as the edge says.
//!
//! Waits with a time limit end by themselves and are not entered.

use std::{
    collections::HashMap,
    panic::Location,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use super::{ThreadId, Word};
use crate::deadlock::LockKind;

/// A word that a thread waits for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'word> {
    pub(crate) word: &'word Word,
    pub(crate) kind: LockKind,
    pub(crate) asked_at: &'static Location<'static>,
}

/// A thread that waits, and what for: a link of a chain that leads from thread to thread.
pub(crate) struct Link {
    pub(crate) thread: ThreadId,
    pub(crate) awaited: Awaited,
}

pub(crate) enum Awaited {
    Lock {
        kind: LockKind,
        address: usize,
        asked_at: &'static Location<'static>,
        /// Where its owner took it, in builds with debug assertions.
        taken_at: Option<&'static Location<'static>>,
    },
    /// A module that another thread is importing.
    Import { module: String },
}

impl Awaited {
    /// The address of the lock, or 0.
    pub(super) fn address(&self) -> usize {
        match self {
            Awaited::Lock { address, .. } => *address,
            Awaited::Import { .. } => 0,
        }
    }
}

impl Wanted<'_> {
    pub(super) fn link(&self, thread: ThreadId) -> Link {
        Link {
            thread,
            awaited: Awaited::Lock {
                kind: self.kind,
                address: self.word.address(),
                asked_at: self.asked_at,
                taken_at: self.word.taken_at(),
            },
        }
    }

    fn owner(&self) -> Option<ThreadId> {
        // Relaxed: whoever owns a word whose sleepers are asleep has owned it for long, and nothing else of its is read.
        Word::owner(self.word.load(Ordering::Relaxed))
    }
}

/// A [`Wanted`] without its lifetime, as the graph keeps it.
struct Edge {
    word: NonNull<Word>,
    kind: LockKind,
    asked_at: &'static Location<'static>,
}

// SAFETY: the pointer is to a `Word`, which is `Sync`, and followed only under the conditions of `Graph::wanted_by`.
unsafe impl Send for Edge {}

/// At most one edge for each thread: it is withdrawn before the thread attaches, and so before other code can run on it.
pub(super) struct Graph {
    edges: Option<HashMap<ThreadId, Edge>>,
}

static GRAPH: Mutex<Graph> = Mutex::new(Graph { edges: None });

/// Locks the graph. No other lock of this module's siblings is taken under it, except at a fork.
pub(super) fn lock_graph() -> MutexGuard<'static, Graph> {
    GRAPH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An edge that is in the graph, until it is dropped.
pub(super) struct Published<'word> {
    thread: ThreadId,
    _wanted: Wanted<'word>,
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        if let Some(edges) = &mut lock_graph().edges {
            edges.remove(&self.thread);
        }
    }
}

/// Enters that `thread`, the calling one, waits for `wanted`, unless that would complete a cycle: then the links of that
/// cycle are the error, beginning with the calling thread.
///
/// The result must be dropped, not forgotten: other threads use `wanted` until then. It does not leave this module's
/// parent, which sees to that.
pub(super) fn publish(thread: ThreadId, wanted: Wanted<'_>) -> Result<Published<'_>, Vec<Link>> {
    let mut graph = lock_graph();
    let mut links = vec![wanted.link(thread)];
    if let Some(owner) = wanted.owner() {
        if graph.follow(owner, thread, &mut links) == Some(thread) {
            return Err(links);
        }
    }
    let edge = Edge {
        word: NonNull::from(wanted.word),
        kind: wanted.kind,
        asked_at: wanted.asked_at,
    };
    let before = graph.edges.get_or_insert_default().insert(thread, edge);
    debug_assert!(before.is_none(), "a thread sleeps in one place at a time");
    Ok(Published {
        thread,
        _wanted: wanted,
    })
}

/// Adds to `links` the waits that lead from `owner`, a thread, to one that waits for no lock of ours, or to `goal`.
/// Gives that thread, or `None` if the chain ends at a lock without an owner, or in a cycle of others.
pub(super) fn follow(owner: ThreadId, goal: ThreadId, links: &mut Vec<Link>) -> Option<ThreadId> {
    lock_graph().follow(owner, goal, links)
}

impl Wanted<'_> {
    /// Adds the wait of `thread` for this to `links`, and then as [`follow`] from its owner.
    pub(super) fn follow(&self, thread: ThreadId, links: &mut Vec<Link>) -> Option<ThreadId> {
        links.push(self.link(thread));
        follow(self.owner()?, thread, links)
    }
}

impl Graph {
    /// What `thread` waits for.
    fn wanted_by(&self, thread: ThreadId) -> Option<Wanted<'_>> {
        let edge = self.edges.as_ref()?.get(&thread)?;
        Some(Wanted {
            // SAFETY: the word was borrowed for the `Published` that made this edge, and whose drop, which needs the
            // lock of the graph, removes it. The lock is held for as long as `self` is borrowed.
            word: unsafe { edge.word.as_ref() },
            kind: edge.kind,
            asked_at: edge.asked_at,
        })
    }

    fn follow(
        &self,
        mut owner: ThreadId,
        goal: ThreadId,
        links: &mut Vec<Link>,
    ) -> Option<ThreadId> {
        while owner != goal {
            let Some(wanted) = self.wanted_by(owner) else {
                break;
            };
            if links.iter().any(|link| link.thread == owner) {
                return None; // A cycle that others are in: one of them has been told.
            }
            links.push(wanted.link(owner));
            owner = wanted.owner()?;
        }
        Some(owner)
    }

    /// Removes all edges, in the child of a fork, where none of their threads exists.
    pub(super) fn clear(&mut self) {
        self.edges = None;
    }
}
