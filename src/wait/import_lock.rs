//! Detection of deadlocks that involve the import locks of the interpreter.
//!
//! A thread holds the import lock of a module while it runs the module body. The body may wait for
//! a cell or mutex whose owner imports that module. `importlib._bootstrap` records the owner of
//! each import lock and the lock that each thread waits for. The records are private, but unchanged
//! from Python 3.9 to 3.15. If they change, these deadlocks are no longer reported.
//!
//! Only attributes and built-in dictionaries are read: calling Python code would run signal
//! handlers, whose exceptions would be lost here.
//!
//! Every such cycle contains a thread that holds an import lock and is parked on a lock of this
//! crate. Only threads that hold an import lock therefore need to poll.

use std::collections::HashSet;

use pyo3::{prelude::*, types::PyList};

use super::{
    ThreadId,
    graph::{self, Resource, ThreadRef, WaitEdge, WaitTarget},
    threads,
};
use crate::python::{exception_aside, loaded_module};

/// Returns `true` if the calling thread is importing a module.
pub(super) fn is_importing(py: Python<'_>) -> bool {
    let Some(ident) = threads::thread_info(ThreadId::current()).and_then(|info| info.ident) else {
        return false;
    };
    exception_aside(py, || holds_import_lock(py, ident).unwrap_or(false))
}

/// Returns `true` if the thread with this Python id holds an import lock.
fn holds_import_lock(py: Python<'_>, ident: u64) -> PyResult<bool> {
    // Maps module names to weak references to locks. Empty unless a thread is importing.
    let locks = bootstrap(py)?.getattr("_module_locks")?;
    if locks.len()? == 0 {
        return Ok(false);
    }
    for lock in locks
        .call_method0("copy")?
        .call_method0("values")?
        .try_iter()?
    {
        let lock = lock?.call0()?;
        if !lock.is_none() && owner(&lock)? == Some(ident) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds a cycle, over locks of this crate and import locks, that waiting for `target` completes.
///
/// `thread` is the calling thread. The search takes no consistent snapshot: other threads run
/// between its steps, so the returned cycle may never have existed. The caller reports a cycle only
/// after it has found it twice in a row.
pub(super) fn find_cycle(
    py: Python<'_>,
    thread: ThreadId,
    target: WaitTarget<'_>,
) -> Option<Vec<WaitEdge>> {
    let mut edges = vec![target.edge_from(thread)];
    let mut seen = HashSet::new();
    // Threads to visit, each with the length of the path to it.
    let at = |length: usize| move |thread: ThreadRef| (thread, length);
    let mut open: Vec<_> = target.holders().into_iter().map(at(1)).collect();
    while let Some((next, length)) = open.pop() {
        edges.truncate(length);
        if next == ThreadRef::Registered(thread) {
            return Some(edges);
        }
        // A thread seen before led nowhere, or to a cycle of other threads.
        if !seen.insert(next) {
            continue;
        }
        if let Some((edge, holders)) = edge_of(py, next) {
            edges.push(edge);
            open.extend(holders.into_iter().map(at(edges.len())));
        }
    }
    None
}

/// Returns the lock or import lock that `thread` waits for, and its holders.
fn edge_of(py: Python<'_>, thread: ThreadRef) -> Option<(WaitEdge, Vec<ThreadRef>)> {
    let ident = match thread {
        ThreadRef::Registered(id) => {
            if let Some(wait) = graph::edge_of(id) {
                return Some(wait);
            }
            threads::thread_info(id)?.ident?
        }
        // A thread that never used a lock of this crate can still hold or wait for an import lock.
        ThreadRef::OsId(ident) => ident,
    };
    let (owner, module) = exception_aside(py, || blocked_on(py, ident).unwrap_or(None))?;
    let owner = threads::with_ident(owner).map_or(ThreadRef::OsId(owner), ThreadRef::Registered);
    let resource = Resource::Import { module };
    Some((WaitEdge { thread, resource }, vec![owner]))
}

/// Returns the owner and the module of the import lock that a thread waits for.
fn blocked_on(py: Python<'_>, ident: u64) -> PyResult<Option<(u64, String)>> {
    let blocking_on = bootstrap(py)?.getattr("_blocking_on")?;
    // A dictionary up to Python 3.11, an object with a dictionary of weak references from 3.12.
    let records = blocking_on.getattr_opt("data")?.unwrap_or(blocking_on);
    let waits = records.call_method1("get", (ident,))?;
    let waits = if waits.is_callable() {
        waits.call0()?
    } else {
        waits
    };
    if waits.is_none() {
        return Ok(None);
    }
    // One lock up to Python 3.11; from 3.12, a list whose last lock is the current one.
    let lock = match waits.cast_into::<PyList>() {
        Ok(locks) => match locks.len().checked_sub(1) {
            Some(last) => locks.get_item(last)?,
            None => return Ok(None),
        },
        Err(error) => error.into_inner(),
    };
    let module = lock.getattr("name")?.extract()?;
    Ok(owner(&lock)?.map(|owner| (owner, module)))
}

/// Returns the Python id of the thread that owns an import lock.
fn owner(lock: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    match lock.getattr("owner")?.extract()? {
        // Up to Python 3.11, the owner of an unlocked lock is -1 or 0.
        Some(owner) if owner > 0 => Ok(Some(owner as u64)),
        Some::<i128>(_) | None => Ok(None),
    }
}

/// Returns the bootstrap module, which every interpreter loads when it starts.
fn bootstrap(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    loaded_module(py, "_frozen_importlib")
}
