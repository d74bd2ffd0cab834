//! Reclamation: pointers to shared nodes, without the types of the nodes.
//!
//! A thread that loads a pointer has no reference to the node behind it yet. Another thread may
//! replace the pointer and free the node in between. Reference counts would need a lock around the
//! load, and a cache line that all readers write to. Instead, a reader stores the address of the
//! node in a slot of its thread ([`readers`]), as for hazard pointers (Maged Michael, "Hazard
//! Pointers: Safe Memory Reclamation for Lock-Free Objects", IEEE TPDS 2004).
//!
//! # Protocol
//!
//! - *Reading*: load the pointer; announce it; light fence; load the pointer again. If it has not
//!   changed, store it in a slot. End the announcement.
//! - *Leaving*: clear the slot; light fence; load the pointer again. If it has changed, look for
//!   the node among the retired ones, under the lock of the list. If the node is there and no
//!   thread reads it, remove it and free it.
//! - *Replacing*: change the pointer; heavy fence. Then, under the lock of the list, wait until no
//!   thread announces the old node, and look at all slots. If no thread reads the old node, free
//!   it. Otherwise add it to the retired nodes.
//!
//! A light and a heavy fence are a pair ([`process_fence`]): of two threads that store, execute the
//! fences and load, one sees the store of the other.
//!
//! # Correctness
//!
//! *No node is freed under a reader.* Either the announcement of the reader is visible after the
//! heavy fence, or the reader sees that the pointer has changed. A thread looks at the slots of a
//! node only after that fence: the thread that replaces the pointer does so directly, and other
//! threads find the node among the retired ones.
//!
//! *A node is freed once.* The thread that frees it has found no readers under the lock, and the
//! node is then not among the retired ones.
//!
//! *A node is freed if all readers leave.* Either the empty slot of a leaving reader is visible
//! after the heavy fence, or the reader sees that the pointer has changed, and takes the lock. It
//! then finds the node among the retired ones, or its empty slot is visible to the thread that
//! takes the lock next. So the last thread to take the lock finds the node without readers.
//!
//! *Nodes are not confused.* A slot shows only threads that read, so the node in it exists and has
//! its address alone. A reader that has left may find a later node at the same address among the
//! retired ones, but only one of the same source, which it may free as well as any thread.
//!
//! A node that a forgotten guard reads is never freed. In a forked child, neither is a node that
//! another thread was reading: a reader may have lent the node to the surviving thread.

use std::{
    mem::ManuallyDrop,
    ptr,
    sync::atomic::{AtomicPtr, Ordering, compiler_fence},
};

use pyo3::Python;

use crate::{
    python::FREE_THREADED,
    wait::{
        process_fence,
        readers::{self, Entry, LockId},
    },
};

/// A pointer to the current node.
///
/// A node that is not allocated has a number instead of a pointer, which is odd. Its address would
/// not do: the slot of a forgotten guard stays filled, and must not concern a later node there.
pub(crate) struct Source(AtomicPtr<()>);

/// Returns a number, as a pointer, that no node has had before.
pub(crate) fn new_number() -> *mut () {
    let number = usize::try_from(LockId::new().bits());
    ptr::without_provenance_mut(number.expect("fewer locks than addresses"))
}

/// Returns whether `node` is a number.
#[inline(always)]
pub(crate) fn is_number(node: *mut ()) -> bool {
    node.addr() % 2 != 0
}

/// Proof that this thread reads a node, which is not freed before it [leaves](Self::leave).
pub(crate) struct Reading<'a> {
    source: &'a Source,
    node: *mut (),
    entry: ManuallyDrop<Entry>,
}

impl Source {
    /// Creates a source with a null pointer.
    pub(crate) const fn new() -> Self {
        Source(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns the current node, with acquire ordering.
    #[inline(always)]
    pub(crate) fn load(&self) -> *mut () {
        self.0.load(Ordering::Acquire)
    }

    /// Reads `node`, if it is still current.
    ///
    /// # Safety
    ///
    /// `node` comes from [`load`](Self::load), since which this thread has not detached, and is not
    /// null.
    #[inline(always)]
    pub(crate) unsafe fn read(&self, py: Python<'_>, node: *mut ()) -> Option<Reading<'_>> {
        // SAFETY: guaranteed by the caller.
        let id = unsafe { LockId::of_node(node) };
        // With a GIL no other thread has run since the caller loaded the node.
        let is_current = || !FREE_THREADED || self.load() == node;
        let entry = Entry::enter_if_light(py, id, is_current)?;
        Some(Reading {
            source: self,
            node,
            entry: ManuallyDrop::new(entry),
        })
    }

    /// Replaces the node unconditionally. Returns the old one, which the caller must
    /// [retire](Self::retire).
    pub(crate) fn swap(&self, new: *mut ()) -> *mut () {
        // Release: publishes the new node. Acquire: the old one may be freed by this thread.
        self.0.swap(new, Ordering::AcqRel)
    }

    /// Replaces the node if it is `old`, which the caller must then retire. Returns whether it was.
    pub(crate) fn replace(&self, old: *mut (), new: *mut ()) -> bool {
        // As for `swap`. Relaxed: a failure has no effect.
        self.0
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Returns whether the caller must free a node that it has replaced. Otherwise a reader will.
    ///
    /// # Safety
    ///
    /// `old` is not null.
    pub(crate) unsafe fn retire(&self, py: Python<'_>, old: *mut ()) -> bool {
        process_fence::heavy(py);
        // SAFETY: guaranteed by the caller.
        readers::retire(self.address(), unsafe { LockId::of_node(old) })
    }

    /// Returns whether the calling thread, which has [left](Reading::leave) `node`, must free it.
    fn was_last(&self, node: *mut ()) -> bool {
        process_fence::light();
        if self.load() == node {
            return false;
        }
        // SAFETY: the thread has read the node, which therefore is not null.
        readers::reclaim(self.address(), unsafe { LockId::of_node(node) })
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }
}

/// Returns whether any thread reads `node`.
///
/// # Safety
///
/// `node` is not null.
pub(crate) unsafe fn is_read(node: *mut ()) -> bool {
    // SAFETY: guaranteed by the caller.
    readers::is_read(unsafe { LockId::of_node(node) })
}

impl<'a> Reading<'a> {
    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    #[inline(always)]
    pub(crate) fn node(&self) -> *mut () {
        self.node
    }

    /// Returns whether the node is still current.
    #[inline(always)]
    pub(crate) fn is_current(&self) -> bool {
        self.source.load() == self.node
    }

    /// Takes the guard apart. The caller must put it [together](Self::from_parts) again.
    #[inline(always)]
    pub(crate) fn into_parts(self) -> (&'a Source, *mut (), Entry) {
        (self.source, self.node, ManuallyDrop::into_inner(self.entry))
    }

    /// Puts a guard together again.
    ///
    /// # Safety
    ///
    /// The parts come from one call of [`into_parts`](Self::into_parts).
    pub(crate) unsafe fn from_parts(source: &'a Source, node: *mut (), entry: Entry) -> Self {
        Reading {
            source,
            node,
            entry: ManuallyDrop::new(entry),
        }
    }

    /// Stops reading. Calls `free` with the node if it was replaced and has no other reader.
    ///
    /// # Safety
    ///
    /// - Called once.
    /// - This thread uses no reference to the node afterwards.
    #[inline(always)]
    pub(crate) unsafe fn leave(&mut self, free: impl FnOnce(*mut ())) {
        // SAFETY: called once.
        let entry = unsafe { ManuallyDrop::take(&mut self.entry) };
        if !entry.leave() {
            return;
        }
        // The light fence where it is a compiler fence; elsewhere `was_last` has one.
        compiler_fence(Ordering::SeqCst);
        if !(process_fence::is_light() && self.is_current()) {
            free_if_last(self.source, self.node, free);
        }
    }
}

/// Takes no guard, so that a guard can stay in registers.
#[cold]
#[inline(never)]
fn free_if_last(source: &Source, node: *mut (), free: impl FnOnce(*mut ())) {
    if source.was_last(node) {
        free(node);
    }
}
