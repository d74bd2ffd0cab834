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
//! one, as the edge says. The same holds for a thread that has entered its edge and is refused by the queue: it is awake, and looks at
//! the word again.
//!
//! A wait may be for more than one thread: who wants to write to a lock waits for all its readers. It never ends if *one* of them
//! waits, over however many others, for the thread itself; so the walk goes to each of them. That they read is known from the
//! slots of their threads ([`readers`]). A slot may be filled by a thread that is about to withdraw, which is awake, and has
//! no edge.
//!
//! Waits with a time limit end by themselves and are not entered.

use std::{
    collections::{HashMap, HashSet},
    panic::Location,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use super::{Pending, ThreadId, Word, readers, readers::LockId};
use crate::deadlock::LockKind;

/// A word that a thread waits for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'word> {
    pub(crate) word: &'word Word,
    pub(crate) holders: Holders,
    pub(crate) kind: LockKind,
    pub(crate) asked_at: &'static Location<'static>,
    /// Where it stands whether the owner only waits itself, if that may be so.
    pub(crate) pending: Option<&'word Pending>,
}

/// For whom the thread waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holders {
    /// The owner in the word.
    Owner,
    /// The threads that read the lock with this id, all of them.
    Readers(LockId),
    /// Any thread, which may do something that this one waits for.
    Anybody,
}

/// A thread in a chain of waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    Known(ThreadId),
    /// One that has never touched a lock of ours, by its [`number`](super::ident). It may be in a chain because of an import.
    Stranger(u64),
}

/// A thread that waits, and what for: a link of a chain that leads from thread to thread.
pub(crate) struct Link {
    pub(crate) thread: Party,
    pub(crate) awaited: Awaited,
}

pub(crate) enum Awaited {
    Lock {
        kind: LockKind,
        address: usize,
        holders: Holders,
        asked_at: &'static Location<'static>,
        /// Where its owner took it, in builds with debug assertions.
        taken_at: Option<&'static Location<'static>>,
        /// Whether that owner only [waits](Pending) itself.
        is_pending: bool,
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
            thread: Party::Known(thread),
            awaited: Awaited::Lock {
                kind: self.kind,
                address: self.word.address(),
                holders: self.holders,
                asked_at: self.asked_at,
                taken_at: match self.holders {
                    Holders::Owner => self.word.taken_at(),
                    Holders::Readers(_) | Holders::Anybody => None,
                },
                is_pending: self.holders == Holders::Owner && self.owner_is_pending(),
            },
        }
    }

    fn owner_is_pending(&self) -> bool {
        // Relaxed: as in `for_each_holder`.
        let owner = Word::owner(self.word.load(Ordering::Relaxed));
        self.pending
            .zip(owner)
            .is_some_and(|(pending, owner)| pending.is(owner))
    }

    /// Whether `holder`, one of those that must let go, will never do so, since a fork left it behind. An owner that only waits need not:
    /// the word is as good as free.
    pub(super) fn is_abandoned_by(&self, holder: ThreadId) -> bool {
        let need_not = self.holders == Holders::Owner
            && self.pending.is_some_and(|pending| pending.is(holder));
        holder.is_gone() && !need_not
    }

    /// Calls `visit` with each thread that must let go, until it gives false.
    pub(super) fn for_each_holder(&self, mut visit: impl FnMut(ThreadId) -> bool) {
        match self.holders {
            Holders::Owner => {
                // Relaxed: whoever owns a word whose sleepers are asleep has owned it for long, and nothing else of its is read.
                if let Some(owner) = Word::owner(self.word.load(Ordering::Relaxed)) {
                    visit(owner);
                }
            }
            Holders::Readers(lock) => readers::for_each_reader(lock, visit),
            Holders::Anybody => {}
        }
    }

    /// The threads that must let go.
    pub(super) fn holders(&self) -> Vec<Party> {
        let mut holders = Vec::new();
        self.for_each_holder(|holder| {
            holders.push(Party::Known(holder));
            true
        });
        holders
    }
}

/// A [`Wanted`] without its lifetime, as the graph keeps it.
struct Edge {
    word: NonNull<Word>,
    holders: Holders,
    kind: LockKind,
    asked_at: &'static Location<'static>,
    pending: Option<NonNull<Pending>>,
}

// SAFETY: the pointers are to a `Word` and a `Pending`, which are `Sync`, and followed only under the conditions of `Graph::wanted_by`.
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
    if graph.leads_to(thread, wanted, &mut links) {
        return Err(links);
    }
    let edge = Edge {
        word: NonNull::from(wanted.word),
        holders: wanted.holders,
        kind: wanted.kind,
        asked_at: wanted.asked_at,
        pending: wanted.pending.map(NonNull::from),
    };
    let before = graph.edges.get_or_insert_default().insert(thread, edge);
    debug_assert!(before.is_none(), "a thread sleeps in one place at a time");
    Ok(Published {
        thread,
        _wanted: wanted,
    })
}

/// What `thread` waits for, if it is a lock of ours, and the threads that must let go of that.
pub(super) fn wait_of(thread: ThreadId) -> Option<(Link, Vec<Party>)> {
    let graph = lock_graph();
    let wanted = graph.wanted_by(thread)?;
    Some((wanted.link(thread), wanted.holders()))
}

impl Graph {
    /// What `thread` waits for.
    fn wanted_by(&self, thread: ThreadId) -> Option<Wanted<'_>> {
        let edge = self.edges.as_ref()?.get(&thread)?;
        Some(Wanted {
            // SAFETY: the word was borrowed for the `Published` that made this edge, and whose drop, which needs the
            // lock of the graph, removes it. The lock is held for as long as `self` is borrowed.
            word: unsafe { edge.word.as_ref() },
            holders: edge.holders,
            kind: edge.kind,
            asked_at: edge.asked_at,
            // SAFETY: as the word.
            pending: edge.pending.map(|pending| unsafe { pending.as_ref() }),
        })
    }

    /// Whether `wanted` cannot be had before `goal`, a thread, lets go of something. Then the waits on the way there are added to
    /// `links`.
    fn leads_to(&self, goal: ThreadId, wanted: Wanted<'_>, links: &mut Vec<Link>) -> bool {
        let mut seen = HashSet::new();
        // Threads to look at, each with the number of links that lead to it.
        let mut open = Vec::new();
        let holders_of = |wanted: Wanted<'_>, links: usize, open: &mut Vec<_>| {
            wanted.for_each_holder(|holder| {
                open.push((holder, links));
                true
            });
        };
        let start = links.len();
        holders_of(wanted, start, &mut open);
        while let Some((thread, length)) = open.pop() {
            links.truncate(length);
            if thread == goal {
                return true;
            }
            // A thread that was seen before led nowhere, or to a cycle that others are in: one of them has been told.
            if let Some(wanted) = self.wanted_by(thread).filter(|_| seen.insert(thread)) {
                links.push(wanted.link(thread));
                holders_of(wanted, links.len(), &mut open);
            }
        }
        links.truncate(start);
        false
    }

    /// Removes all edges, in the child of a fork, where none of their threads exists.
    pub(super) fn clear(&mut self) {
        self.edges = None;
    }
}
