//! The wait-for graph. A deadlock is a cycle in it (invariant I4).
//!
//! Each thread that is parked without a timeout has one edge, to the word of the lock that it waits
//! for. The word stores the next edge, to its owner. Uncontended operations do not use the graph.
//!
//! # One report per cycle
//!
//! A running thread can still release its locks, so a cycle is complete only when its last thread
//! is about to park.
//! Before it parks, each thread follows owners and edges, starting at the word it waits for.
//! Under one lock of the graph, it either reaches itself and reports a deadlock, or inserts its own
//! edge. Of two threads that race to complete a cycle, the second finds the edge of the first.
//!
//! # No false reports
//!
//! A thread removes its edge after it is unparked and before it attaches. Until then the edge is
//! stale, but harmless, because the search continues at the current owner of the word. A released
//! word has no owner, even if it is reserved. If a third thread has acquired the word, the unparked
//! thread has to wait for it, as the edge says. The same holds for a thread that fails to enqueue
//! after it has inserted its edge.
//!
//! A writer deadlocks if *one* of the readers that it waits for waits, directly or through other
//! threads, for the writer. The search visits every reader in the [`readers`] slots. A reader that
//! is about to leave its slot is running, and has no edge.
//!
//! Waits with a timeout are not inserted, because they expire.

use std::{
    collections::{HashMap, HashSet},
    panic::Location,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use super::{DrainingOwner, ThreadId, Word, readers, readers::LockId};

/// A wait that can never end: its cause, and the edges of the cycle.
pub(crate) struct Deadlock {
    pub(crate) cause: Cause,
    /// Starts with the edge of the calling thread, which is the only one if there is no cycle.
    pub(crate) edges: Vec<WaitEdge>,
}

/// The reason why a wait can never end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The thread waits for itself, directly or through other threads.
    Cycle,
    /// The interpreter is finalizing, and only the calling thread can still run Python code.
    Finalizing,
    /// The owner was lost to a fork.
    Abandoned,
}

/// The kind of a lock. Each type that blocks has a constant.
#[derive(Clone, Copy)]
pub(crate) struct LockKind {
    /// The name of the public type.
    pub(crate) name: &'static str,
    pub(crate) role: Role,
}

/// The event that ends a wait for a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The owner releases the lock.
    Exclusive,
    /// The writer or the readers release the lock.
    ReadWrite,
    /// The owner returns from its initializer. Contains the name that errors use for it.
    Initializer(&'static str),
    /// Any thread notifies this one.
    Notification,
    /// Other threads arrive.
    Rendezvous,
}

impl LockKind {
    /// Returns whether the owner runs an initializer.
    ///
    /// If that owner was lost to a fork, the cell counts as empty.
    pub(super) fn has_initializer(self) -> bool {
        matches!(self.role, Role::Initializer(_))
    }
}

/// The lock that a thread waits for.
#[derive(Clone, Copy)]
pub(crate) struct WaitTarget<'word> {
    pub(crate) word: &'word Word,
    pub(crate) holders: Holders,
    pub(crate) kind: &'static LockKind,
    pub(crate) caller: &'static Location<'static>,
    /// Set for locks whose owner may still be waiting for readers to drain.
    pub(crate) draining: Option<&'word DrainingOwner>,
}

/// The threads that must release a lock before a waiter can acquire it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holders {
    /// The owner stored in the word.
    Owner,
    /// All readers of the lock with this id.
    Readers(LockId),
    /// Unknown threads, such as the notifiers of a condition variable.
    Unknown,
}

/// A thread in a chain of waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ThreadRef {
    Registered(ThreadId),
    /// A thread by its [OS id](super::ident). It may have no [`ThreadId`].
    OsId(u64),
}

/// An edge of the graph: a thread, and the resource that it waits for.
pub(crate) struct WaitEdge {
    pub(crate) thread: ThreadRef,
    pub(crate) resource: Resource,
}

/// A resource that a thread waits for.
pub(crate) enum Resource {
    Lock {
        kind: &'static LockKind,
        address: usize,
        holders: Holders,
        /// The place where the thread requested the lock.
        caller: &'static Location<'static>,
        /// The place where the lock was created, in builds with debug assertions.
        created_at: Option<&'static Location<'static>>,
        /// The place where the owner acquired the lock, in builds with debug assertions.
        acquired_at: Option<&'static Location<'static>>,
        /// `true` if the owner is still [waiting for readers to drain](DrainingOwner).
        is_draining: bool,
    },
    /// The import lock of a module.
    Import { module: String },
}

impl Resource {
    /// Returns the address of the lock, or 0 for an import lock.
    pub(super) fn address(&self) -> usize {
        match self {
            Resource::Lock { address, .. } => *address,
            Resource::Import { .. } => 0,
        }
    }
}

impl WaitTarget<'_> {
    pub(super) fn edge_from(&self, thread: ThreadId) -> WaitEdge {
        WaitEdge {
            thread: ThreadRef::Registered(thread),
            resource: Resource::Lock {
                kind: self.kind,
                address: self.word.address(),
                holders: self.holders,
                caller: self.caller,
                created_at: self.word.created_at(),
                acquired_at: match self.holders {
                    Holders::Owner => self.word.acquired_at(),
                    Holders::Readers(_) | Holders::Unknown => None,
                },
                is_draining: self.holders == Holders::Owner && self.owner_is_draining(),
            },
        }
    }

    fn owner_is_draining(&self) -> bool {
        // Relaxed: as in `for_each_holder`.
        let owner = Word::owner(self.word.load(Ordering::Relaxed));
        self.draining
            .zip(owner)
            .is_some_and(|(draining, owner)| draining.is_draining(owner))
    }

    /// Returns `true` if `holder` was lost to a fork and will never release the lock.
    ///
    /// The word of an owner that was still waiting for readers to drain counts as free.
    pub(super) fn is_abandoned_by(&self, holder: ThreadId) -> bool {
        let need_not = self.holders == Holders::Owner
            && self
                .draining
                .is_some_and(|draining| draining.is_draining(holder));
        holder.is_gone() && !need_not
    }

    /// Calls `visit` with each holder until `visit` returns `false`.
    pub(super) fn for_each_holder(&self, mut visit: impl FnMut(ThreadId) -> bool) {
        match self.holders {
            Holders::Owner => {
                // Relaxed: an owner on a cycle stored its id before it inserted its edge, which the
                // lock of the graph orders. Nothing that the owner wrote is read.
                if let Some(owner) = Word::owner(self.word.load(Ordering::Relaxed)) {
                    visit(owner);
                }
            }
            Holders::Readers(lock) => readers::for_each_reader(lock, visit),
            Holders::Unknown => {}
        }
    }

    pub(super) fn holders(&self) -> Vec<ThreadRef> {
        let mut holders = Vec::new();
        self.for_each_holder(|holder| {
            holders.push(ThreadRef::Registered(holder));
            true
        });
        holders
    }
}

/// A [`WaitTarget`] without its lifetime, for storage in the graph.
struct StoredEdge {
    word: NonNull<Word>,
    holders: Holders,
    kind: &'static LockKind,
    caller: &'static Location<'static>,
    draining: Option<NonNull<DrainingOwner>>,
}

// SAFETY:
// - The pointers are to a `Word` and a `DrainingOwner`, both `Sync`.
// - Only `Graph::target_of` dereferences them, under the conditions stated there.
unsafe impl Send for StoredEdge {}

/// The edges, at most one per thread: a thread runs no other code before it removes its edge.
pub(super) struct Graph {
    edges: Option<HashMap<ThreadId, StoredEdge>>,
}

static GRAPH: Mutex<Graph> = Mutex::new(Graph { edges: None });

/// Locks the graph. No other lock of [`wait`](super) is acquired under it, except at a fork.
pub(super) fn lock_graph() -> MutexGuard<'static, Graph> {
    GRAPH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes an edge from the graph when dropped.
pub(super) struct EdgeGuard<'word> {
    thread: ThreadId,
    _wanted: WaitTarget<'word>,
}

impl Drop for EdgeGuard<'_> {
    fn drop(&mut self) {
        if let Some(edges) = &mut lock_graph().edges {
            edges.remove(&self.thread);
        }
    }
}

/// Inserts the edge from `thread`, the calling thread, to `target`, unless it completes a cycle.
///
/// # Errors
///
/// Returns the edges of the cycle, starting with the calling thread.
///
/// # Safety
///
/// The guard is dropped, not forgotten. Other threads access `target` until then.
pub(super) unsafe fn insert(
    thread: ThreadId,
    target: WaitTarget<'_>,
) -> Result<EdgeGuard<'_>, Vec<WaitEdge>> {
    let mut graph = lock_graph();
    let mut edges = vec![target.edge_from(thread)];
    if graph.find_path(thread, target, &mut edges) {
        return Err(edges);
    }
    let edge = StoredEdge {
        word: NonNull::from(target.word),
        holders: target.holders,
        kind: target.kind,
        caller: target.caller,
        draining: target.draining.map(NonNull::from),
    };
    let before = graph.edges.get_or_insert_default().insert(thread, edge);
    debug_assert!(before.is_none(), "a thread has at most one edge");
    Ok(EdgeGuard {
        thread,
        _wanted: target,
    })
}

/// Returns the lock that `thread` waits for, and its holders.
pub(super) fn edge_of(thread: ThreadId) -> Option<(WaitEdge, Vec<ThreadRef>)> {
    let graph = lock_graph();
    let target = graph.target_of(thread)?;
    Some((target.edge_from(thread), target.holders()))
}

impl Graph {
    fn target_of(&self, thread: ThreadId) -> Option<WaitTarget<'_>> {
        let edge = self.edges.as_ref()?.get(&thread)?;
        Some(WaitTarget {
            // SAFETY:
            // - The `EdgeGuard` of this edge borrows the word, and is not forgotten.
            // - Its drop removes the edge under the lock of the graph, which the caller holds.
            word: unsafe { edge.word.as_ref() },
            holders: edge.holders,
            kind: edge.kind,
            caller: edge.caller,
            // SAFETY: as for the word; the `EdgeGuard` borrows `pending` too.
            draining: edge.draining.map(|draining| unsafe { draining.as_ref() }),
        })
    }

    /// Returns `true` if a path leads from `target` to the thread `goal`, and appends its edges.
    fn find_path(&self, goal: ThreadId, target: WaitTarget<'_>, edges: &mut Vec<WaitEdge>) -> bool {
        let mut seen = HashSet::new();
        // Threads to visit, each with the length of the path to it.
        let mut open = Vec::new();
        let holders_of = |target: WaitTarget<'_>, edges: usize, open: &mut Vec<_>| {
            target.for_each_holder(|holder| {
                open.push((holder, edges));
                true
            });
        };
        let start = edges.len();
        holders_of(target, start, &mut open);
        while let Some((thread, length)) = open.pop() {
            edges.truncate(length);
            if thread == goal {
                return true;
            }
            // A thread seen before led nowhere, or to a cycle of other threads, which is reported.
            if let Some(target) = self.target_of(thread).filter(|_| seen.insert(thread)) {
                edges.push(target.edge_from(thread));
                holders_of(target, edges.len(), &mut open);
            }
        }
        edges.truncate(start);
        false
    }

    /// Removes all edges, in a forked child.
    pub(super) fn clear(&mut self) {
        self.edges = None;
    }
}
